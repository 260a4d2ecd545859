"""What the receiver reads and writes: piwheels.database.uploads."""

import pytest

from piwheels.database import uploads
from piwheels.database.connection import transaction
from tests.leased_farm import TAGS

NAME = "tiny-1.0-py3-none-any.whl"
SHA256 = "0" * 64
PLACED = {"name": NAME, "size": 5, "tags": ["py3-none-any"]}


@pytest.fixture
def lease(farm):
    lease = farm.lease("tiny", "1.0")
    farm.expect_bytes(lease, NAME, 5, SHA256)
    return lease


def ask(farm, token, name=NAME):
    with transaction(farm.engine) as connection:
        return uploads.expected(connection, token, name)


def place(farm, lease):
    with transaction(farm.engine) as connection:
        return uploads.record_placed(connection, lease.build_id, NAME, PLACED)


def refuse(farm, lease):
    with transaction(farm.engine) as connection:
        return uploads.record_refused(connection, lease.build_id, NAME, "it is broken")


def test_a_file_of_a_lease_is_expected_with_all_that_the_lease_is_for(farm, lease):
    assert ask(farm, lease.token) == uploads.ExpectedFile(
        lease.build_id, "tiny", "1.0", frozenset(TAGS), 5, SHA256, None, ""
    )


def test_a_file_that_no_lease_told_of_is_not_expected(farm, lease):
    assert ask(farm, lease.token, "other-1.0-py3-none-any.whl") is None


def test_a_file_is_not_expected_from_the_slave_of_another_lease(farm, lease):
    assert ask(farm, farm.lease("tiny", "1.0").token) is None


def test_a_file_is_not_expected_once_its_lease_has_ended(farm, lease):
    farm.end(lease)
    assert ask(farm, lease.token) is None


def test_recording_a_placed_file_twice_changes_nothing(farm, lease):
    assert [place(farm, lease), place(farm, lease)] == [True, True]
    assert ask(farm, lease.token).placed == PLACED


def test_a_file_is_not_recorded_as_placed_once_its_lease_has_ended(farm, lease):
    farm.end(lease)
    assert place(farm, lease) is False


def test_a_placed_file_is_not_refused_later(farm, lease):
    place(farm, lease)
    assert refuse(farm, lease) is False
    assert ask(farm, lease.token).refused == ""


def test_a_refused_file_is_not_placed_later(farm, lease):
    assert refuse(farm, lease) is True
    assert place(farm, lease) is False
    assert ask(farm, lease.token).refused == "it is broken"


def test_the_builds_of_ended_leases_are_not_live(farm, lease):
    ended = farm.lease("small", "2.0")
    farm.end(ended)
    with transaction(farm.engine) as connection:
        assert uploads.live_build_ids(connection) == {lease.build_id}
