from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from piwheels.database import projects, versions
from piwheels.database.connection import connect, transaction
from piwheels.database.schema import initialize
from piwheels.model.builds import Sdist
from piwheels.model.projects import ProjectPage, ProjectVersion
from piwheels.rules.project_diff import diff

RELEASED = datetime(2024, 12, 4, 17, 35, 26, 475808, UTC)
SDIST = Sdist("six-1.0.tar.gz", "https://files.example/six-1.0.tar.gz", "0" * 64, 34031)
FULL = ProjectVersion(
    "1.0", RELEASED, ">=2.7", "oops", SDIST, frozenset({"py3-none-any", "b", "a"})
)
BARE = ProjectVersion("0.9")


@pytest.fixture
def engine(database):
    initialize(database, "versions_test")
    engine = connect(database)
    yield engine
    engine.dispose()


def page(*releases, serial=None, name="six"):
    return ProjectPage(name, name.title(), releases, serial)


def write_down(engine, some_page):
    with transaction(engine) as connection:
        versions.enter(connection, some_page)
        changes = diff(versions.known(connection, some_page.package), some_page)
        return versions.apply(connection, some_page, changes)


def known(engine, name="six"):
    with transaction(engine) as connection:
        return versions.known(connection, name)


def ask(engine, statement):
    with transaction(engine) as connection:
        return connection.exec_driver_sql(statement).fetchall()


def test_a_page_is_known_as_it_was_written_down(engine):
    write_down(engine, page(FULL, BARE))
    assert known(engine) == {"1.0": FULL, "0.9": BARE}


def test_the_ids_of_changed_versions_are_returned(engine):
    write_down(engine, page(FULL, BARE))
    changed = write_down(engine, page(FULL, replace(BARE, yanked="")))
    assert ask(engine, "SELECT version_id FROM versions WHERE version = '0.9'") == [(*changed,)]


def test_writing_the_same_page_again_changes_nothing(engine):
    write_down(engine, page(FULL, BARE))
    assert write_down(engine, page(FULL, BARE)) == set()


def test_applying_the_same_changes_twice_changes_nothing(engine):
    some_page = page(FULL, BARE)
    changes = diff({}, some_page)
    with transaction(engine) as connection:
        versions.apply(connection, some_page, changes)
        assert versions.apply(connection, some_page, changes) == set()


def test_equal_sets_of_tags_are_stored_once(engine):
    write_down(engine, page(FULL, replace(FULL, version="1.1")))
    write_down(engine, page(FULL, name="seven"))
    assert ask(engine, "SELECT tags FROM tag_sets") == [(["a", "b", "py3-none-any"],)]


def test_a_package_that_is_not_known_has_no_versions(engine):
    assert known(engine, "nothing") == {}


def test_a_page_older_than_the_one_on_record_changes_nothing(engine):
    write_down(engine, page(FULL, serial=20))
    assert write_down(engine, page(replace(FULL, yanked=None), serial=19)) == set()
    assert known(engine) == {"1.0": FULL}


def test_a_package_is_found_under_its_name_and_its_spelling(engine):
    write_down(engine, page(FULL))
    names = 'SELECT name FROM package_names ORDER BY name COLLATE "C"'
    assert ask(engine, names) == [("Six",), ("six",)]


def test_a_spelling_stays_with_the_package_that_had_it_first(engine):
    write_down(engine, page(name="six"))
    write_down(engine, ProjectPage("seven", "six"))
    owner = "SELECT packages.name FROM package_names JOIN packages USING (package_id)"
    assert ask(engine, f"{owner} WHERE package_names.name = 'six'") == [("six",)]


def test_an_alias_of_another_package_is_refused(engine):
    write_down(engine, page(name="six"))
    write_down(engine, page(name="seven"))
    with transaction(engine) as connection:
        seven = versions.get_package(connection, "seven")
        with pytest.raises(versions.NameTaken, match="six already leads to six"):
            versions.add_names(connection, seven.package_id, ["six"])


def test_an_alias_is_news_once(engine):
    write_down(engine, page())
    with transaction(engine) as connection:
        six = versions.get_package(connection, "six").package_id
        assert versions.add_names(connection, six, ["VI"]) == {"VI"}
        assert versions.add_names(connection, six, ["VI"]) == set()


def want(engine, *lanes):
    write_down(engine, page(FULL))
    with transaction(engine) as connection:
        for lane in lanes:
            versions.want(connection, "six", "1.0", lane)
        return versions.get_version(connection, "six", "1.0").lane


def test_a_version_on_pypi_is_wanted_by_nobody(engine):
    assert want(engine) is None


@pytest.mark.parametrize("lanes", [(0, 2), (2, 0), (2, 0, 1)])
def test_the_most_urgent_wish_for_a_version_wins(engine, lanes):
    assert want(engine, *lanes) == 0


def test_a_wish_survives_a_change_on_pypi(engine):
    want(engine, 1)
    write_down(engine, page(replace(FULL, sdist=None)))
    with transaction(engine) as connection:
        assert versions.get_version(connection, "six", "1.0").lane == 1


def test_an_unknown_version_cannot_be_wanted(engine):
    write_down(engine, page(FULL))
    with transaction(engine) as connection, pytest.raises(versions.UnknownVersion):
        versions.want(connection, "six", "9.9", 0)


def test_skipping_a_package_concerns_the_versions_somebody_wants(engine):
    write_down(engine, page(FULL, BARE))
    with transaction(engine) as connection:
        wanted = versions.want(connection, "six", "1.0", 0)
        six = versions.get_package(connection, "six")
        assert versions.skip_package(connection, six.package_id, "too big") == {wanted}
        assert versions.get_package(connection, "six").skip == "too big"


def test_a_page_is_asked_for_once_however_often(engine):
    write_down(engine, page())
    with transaction(engine) as connection:
        six = versions.get_package(connection, "six").package_id
        projects.request_pages(connection, [six], "first")
        projects.request_pages(connection, [six], "second")
    assert ask(engine, "SELECT reason FROM page_jobs") == [("second",)]


RELEASES = st.builds(
    ProjectVersion,
    st.sampled_from(["1.0", "1.1", "2.0rc1", "1!3"]),
    released=st.none() | st.datetimes(datetime(1990, 1, 1), timezones=st.just(UTC)),
    requires_python=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    yanked=st.none() | st.sampled_from(["", 'it\'s "broken" \\ {}']),
    sdist=st.sampled_from([None, SDIST, replace(SDIST, size=None)]),
    tags=st.frozensets(st.sampled_from(["py3-none-any", "a,b", '"', "{}", "NULL", "\\"])),
)
HISTORIES = st.lists(st.lists(RELEASES, unique_by=lambda one: one.version), max_size=4)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(HISTORIES)
def test_after_any_history_what_the_last_page_says_is_known(engine, history):
    for releases in history:
        write_down(engine, page(*releases))
        found = known(engine)
        assert {one.version: found[one.version] for one in releases} == {
            one.version: one for one in releases
        }
