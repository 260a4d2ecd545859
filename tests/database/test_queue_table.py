"""The table queue against its rule, on random histories in a real database."""

import secrets
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from piwheels.database import leases, versions
from piwheels.database.connection import transaction
from piwheels.master import claims, queue
from piwheels.model.builds import FailureClass
from piwheels.model.queue import State
from piwheels.rules.slave_session import Committed, Dismissed, Speaker
from tests.database.farm_in_a_database import MINORS, Farm, tags_of

VERSION_CHANGES = (
    "UPDATE versions SET skip = 'spam' WHERE version_id = :version_id",
    "UPDATE versions SET skip = '' WHERE version_id = :version_id",
    "UPDATE versions SET lane = NULL WHERE version_id = :version_id",
    "UPDATE versions SET lane = 0 WHERE version_id = :version_id",
    "UPDATE versions SET lane = 1 WHERE version_id = :version_id",
    "UPDATE versions SET past = (SELECT max(build_id) FROM builds) WHERE version_id = :version_id"
    " AND EXISTS (SELECT FROM builds)",
    "DELETE FROM files WHERE version_id = :version_id",
    "DELETE FROM versions WHERE version_id = :version_id",
    "INSERT INTO skips SELECT package_id, version_id, (SELECT min(target_id) FROM targets), 'no'"
    " FROM versions WHERE version_id = :version_id ON CONFLICT DO NOTHING",
    "DELETE FROM skips WHERE version_id = :version_id",
)
PACKAGE_CHANGES = (
    "UPDATE packages SET skip = 'spam' WHERE name = :name",
    "UPDATE packages SET skip = '' WHERE name = :name",
    "UPDATE packages SET policy = 'missing' WHERE name = :name",
    "UPDATE packages SET policy = 'all' WHERE name = :name",
    "UPDATE packages SET prereleases = 'last' WHERE name = :name",
    "UPDATE packages SET prereleases = 'never' WHERE name = :name",
    "UPDATE packages SET prereleases = 'build' WHERE name = :name",
    "UPDATE packages SET keep = 1 WHERE name = :name",
    "UPDATE packages SET keep = NULL WHERE name = :name",
    "UPDATE packages SET popularity = popularity + 1 WHERE name = :name",
    "UPDATE packages SET network = NOT network WHERE name = :name",
    "INSERT INTO skips SELECT package_id, NULL, (SELECT max(target_id) FROM targets), 'no'"
    " FROM packages WHERE name = :name ON CONFLICT DO NOTHING",
    "DELETE FROM packages WHERE name = :name AND name LIKE '%7'",
)
TARGET_CHANGES = (
    "UPDATE targets SET active = false WHERE target_id = :target_id",
    "UPDATE targets SET active = true WHERE target_id = :target_id",
    "UPDATE targets SET rank = 40 - rank WHERE target_id = :target_id",
    "UPDATE targets SET python = '3.8.1' WHERE target_id = :target_id",
)
TAGS = st.sampled_from(
    [(), ("py3-none-any",), ("cp39-abi3-linux_armv7l",), (tags_of(11)[0],), ("cp39-cp39-win32",)]
)
MINOR, SIZE, WHICH = st.sampled_from(MINORS), st.sampled_from([0, 2]), st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("add_package")),
    st.builds(
        lambda which, version, lane, tags, yanked, python, sdist: (
            "release",
            which,
            version,
            {"lane": lane, "tags": tags, "yanked": yanked, "requires_python": python, **sdist},
        ),
        WHICH,
        st.sampled_from(["1.0", "1.1", "2.0rc1", "2.0", "not a version"]),
        st.sampled_from([0, 1, 2]),
        TAGS,
        st.sampled_from([None, None, "", "broken"]),
        st.sampled_from(["", ">=3.10", "<3.12", "oops"]),
        st.sampled_from([{}, {}, {"sdist": None}]),
    ),
    st.tuples(st.just("withdraw"), WHICH),
    st.tuples(st.just("claim"), MINOR, SIZE),
    st.tuples(st.just("claim"), MINOR, SIZE),
    st.tuples(
        st.just("end"),
        MINOR,
        SIZE,
        st.none() | st.sampled_from(FailureClass).map(str),
        TAGS.filter(bool),
        st.sampled_from(["", "p1", "p3"]),
    ),
    st.tuples(st.just("lose"), MINOR, SIZE),
    st.tuples(st.just("leave"), MINOR, SIZE),
    st.tuples(st.just("greet"), MINOR, st.sampled_from([0, 2, 4]), st.sampled_from("abc")),
    st.tuples(st.just("alter_version"), st.sampled_from(VERSION_CHANGES), WHICH),
    st.tuples(st.just("alter_package"), st.sampled_from(PACKAGE_CHANGES), WHICH),
    st.tuples(st.just("alter_target"), st.sampled_from(TARGET_CHANGES), MINOR),
)


@pytest.fixture
def farm(farm_database):
    farm = Farm(farm_database)
    farm.empty()
    yield farm
    farm.engine.dispose()


@given(st.lists(STEPS, min_size=10, max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_history_the_table_is_what_the_rule_says(farm, steps):
    farm.empty()
    farm.add_package()
    farm.add_package()
    for step in steps:
        match step:
            case ("release", which, version, details):
                farm.release(which, version, **details)
            case (name, *arguments):
                getattr(farm, name)(*arguments)
        farm.keep()
        farm.check()


def test_a_slave_that_asks_twice_gets_the_build_it_has(farm):
    farm.add_package()
    farm.add_package()
    assert farm.claim(9) == farm.claim(9)


def test_the_newest_release_of_the_first_lane_is_claimed_first(farm):
    for lane, year in ((1, 2020), (2, 2027), (1, 2026)):
        farm.add_package()
        farm.release(-1, "1.0", lane=lane, released=datetime(year, 1, 1, tzinfo=UTC))
    old, backlog, new = farm.packages
    claimed = []
    for _ in range(3):
        claimed.append(farm.claim(9, 0, lambda: b"1" + secrets.token_bytes(15)).package)
        farm.end(9, 0)
    assert claimed == [new, old, backlog]


def test_a_newer_release_pushes_out_the_oldest_where_only_the_newest_are_kept(farm):
    farm.add_package()
    farm.alter_package("UPDATE packages SET keep = 1 WHERE name = :name", 0)
    farm.release(0, "2.0")
    farm.keep()
    old, new = farm.version_ids()
    assert farm.states(old)[9].state is State.SKIPPED
    assert farm.states(new)[9].state is State.WAITING
    farm.check()


def test_what_slaves_cannot_hold_waits_for_a_larger_one_and_is_built_there(farm):
    farm.add_package()
    farm.claim(9, 0)
    farm.end(9, 0, FailureClass.OUT_OF_MEMORY)
    farm.change("UPDATE queue SET ready = true")
    assert farm.claim(9, 0) is None
    assert farm.claim(9, 2) is not None


def test_what_no_slave_can_hold_is_held_until_a_larger_one_comes(farm):
    farm.add_package()
    (version_id,) = farm.version_ids()
    farm.claim(9, 2)
    farm.end(9, 2, FailureClass.OUT_OF_MEMORY)
    held = farm.states(version_id)[9]
    assert held.state is State.HELD
    assert "memory" in held.reason
    farm.greet(9, 4, "first")
    farm.keep()
    assert farm.states(version_id)[9].state is State.WAITING
    farm.check()


def test_what_lacked_a_header_is_tried_again_once_on_a_new_image(farm):
    farm.add_package()
    (version_id,) = farm.version_ids()
    for image in ("second", "third"):
        farm.claim(9, 0)
        farm.end(9, 0, FailureClass.MISSING_TOOL)
        assert farm.states(version_id)[9].state is State.FAILED
        farm.greet(9, 0, "first")  # an old one is no news
        farm.keep()
        assert farm.states(version_id)[9].state is State.FAILED
        farm.greet(9, 0, image)
        farm.keep()
        assert farm.states(version_id)[9].state is State.WAITING
        farm.check()


def test_what_lacked_a_requirement_is_tried_again_when_that_is_there(farm):
    farm.add_package()
    farm.add_package()
    required = farm.packages[1]
    asked, _ = farm.version_ids()
    farm.claim(9, 0)
    farm.end(9, 0, FailureClass.DEPENDENCY_UNAVAILABLE, needs=required)
    before = farm.states(asked)[9]
    farm.claim(9, 2)
    farm.end(9, 2)
    farm.keep()
    after = farm.states(asked)[9]
    assert (before.attempts, after.attempts) == (1, 0)
    farm.check()


def test_a_version_that_slaves_are_lost_with_is_tried_on_another_one_first(farm):
    farm.add_package()
    farm.claim(9, 0)
    farm.lose(9, 0)
    farm.change("UPDATE queue SET ready = true")
    assert farm.claim(9, 0) is None
    assert farm.claim(9, 2) is not None


def test_a_slave_that_is_the_only_one_gets_it_back_after_a_minute(farm):
    farm.add_package()
    farm.claim(9, 0)
    farm.lose(9, 0)
    farm.change("UPDATE queue SET ready = true, not_before = now() - interval '2 minutes'")
    assert farm.claim(9, 0) is not None


def test_a_slave_that_fails_again_and_again_by_its_own_fault_is_in_quarantine(farm):
    for _ in range(3):
        farm.add_package()
        assert farm.claim(9, 0)
        farm.end(9, 0, FailureClass.SANDBOX)
    farm.add_package()
    assert farm.claim(9, 0) is None
    assert farm.claim(9, 2) is not None
    assert farm.scalars("SELECT quarantined > now() FROM slaves WHERE label = 'pi-9-0'") == [True]


def test_a_good_build_after_the_quarantine_wipes_the_record(farm):
    for _ in range(3):
        farm.add_package()
        farm.claim(9, 0)
        farm.end(9, 0, FailureClass.SANDBOX)
    farm.change("UPDATE slaves SET quarantined = now()")
    farm.add_package()
    farm.claim(9, 0)
    farm.end(9, 0)
    assert farm.scalars("SELECT blame + quarantines FROM slaves WHERE label = 'pi-9-0'") == [0]


def test_packages_that_fail_by_their_own_fault_are_counted_until_one_is_built(farm):
    farm.add_package()
    farm.claim(9, 0)
    farm.end(9, 0, FailureClass.SOURCE_ERROR)
    assert farm.scalars("SELECT failures FROM packages") == [1]
    farm.claim(11, 0)
    farm.end(11, 0)
    assert farm.scalars("SELECT failures FROM packages") == [0]


def test_a_lane_that_has_always_something_before_it_is_still_served(farm):
    for number in range(12):
        farm.add_package()
        farm.release(number, "1.0", lane=0 if number < 11 else 2)
    lot = bytes([0, 2]) + bytes(14)  # one in eight: the backlog goes first
    order = farm.claim(9, 0, lambda: lot)
    assert order.package == farm.packages[-1]


def test_retries_come_back_when_the_clock_steps_back_further_than_any_delay(farm):
    farm.add_package()
    farm.claim(9, 0)
    farm.end(9, 0, FailureClass.FETCH_FAILED)
    farm.change("UPDATE queue SET not_before = now() + interval '2 years'")
    farm.keep()
    assert farm.claim(9, 0) is not None


def test_leases_do_not_outlive_a_clock_that_steps_back(farm):
    farm.add_package()
    farm.claim(9, 0)
    farm.change("UPDATE leases SET expires = now() + interval '2 years'")
    farm.keep()
    assert farm.scalars("SELECT expires < now() + interval '1 hour' FROM leases") == [True]


def test_a_chance_given_while_the_clock_was_ahead_counts_all_later_failures(farm):
    farm.add_package()
    (version_id,) = farm.version_ids()
    farm.claim(9, 0)
    farm.end(9, 0, FailureClass.SOURCE_ERROR)
    with transaction(farm.engine) as connection:
        versions.ask_again(connection, version_id)
        queue.refresh(connection, [version_id])
    farm.claim(9, 0)
    farm.end(9, 0, FailureClass.SOURCE_ERROR)
    farm.change("UPDATE builds SET ended = now() - interval '1 year'")
    assert farm.states(version_id)[9].state is State.FAILED


def test_a_build_is_committed_once_whatever_is_repeated(farm):
    farm.add_package()
    order = farm.claim(9, 0)
    built = farm.result(order.build_id, order.token)
    for _ in range(3):
        assert farm.conclude(9, 0, built) == Committed()
    assert farm.scalars("SELECT count(*) FROM builds") == [1]
    assert farm.scalars("SELECT count(*) FROM files") == [1]


def test_two_processes_that_share_a_name_do_not_share_its_builds(farm):
    farm.add_package()
    order = farm.claim(9, 0)
    farm.greet(9, 0, "first", run=b"2" * 16)
    speaker = Speaker(farm.slaves[9, 0], bytes(16))
    with transaction(farm.engine) as connection:
        answers, _ = claims.grant(connection, [speaker], 60.0)
        standing = leases.stand(
            connection, [leases.Beat(order.token, speaker.slave, speaker.run)], 60.0
        )
    assert isinstance(answers[speaker], Dismissed)
    assert not standing
