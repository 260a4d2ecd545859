"""The table queue against its rule, on random histories in a real database."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from piwheels.model.builds import FailureClass
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
def farm(database):
    farm = Farm(database)
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
