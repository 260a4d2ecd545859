"""The tracker's steps against a scripted PyPI and a real database."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from piwheels.database import projects, tracking
from piwheels.database.connection import transaction
from piwheels.master import news
from piwheels.model.following import Mode
from piwheels.model.queue import State
from tests.database.farm_in_a_database import Farm
from tests.database.followed_pypi import LISTED, Follower
from tests.histories import continuations, histories
from tests.history import (
    Archived,
    Cleared,
    File,
    FileRemoved,
    History,
    Quarantined,
    Removed,
    Unyanked,
    Yanked,
)
from tests.scripted_pypi import Answer, Cut, Stale, scripted_pypi

SDIST = File("six-1.0.tar.gz", b"1.0", None)
NEWER = File("six-1.1.tar.gz", b"1.1", None)
SIX = History().release("six", "1.0", SDIST)


@pytest.fixture(scope="module")
def pypi():
    with scripted_pypi() as server:
        yield server


@pytest.fixture
def follower(farm_database, pypi):
    farm = Farm(farm_database)
    farm.empty()
    pypi.plan.clear()
    pypi.asked.clear()
    follower = Follower(farm, pypi)
    yield follower
    follower.close()
    farm.engine.dispose()


@pytest.fixture
def happens(follower, pypi):
    """Makes a history what PyPI has, and lets the tracker notice."""

    def happens(history):
        pypi.catalogue = history
        follower.settle()

    return happens


def versions(follower):
    rows = "SELECT name || ' ' || version FROM versions JOIN packages USING (package_id) ORDER BY 1"
    return follower.farm.scalars(rows)


def lanes(follower):
    return follower.farm.scalars("SELECT lane FROM versions ORDER BY version_id")


def waiting(follower):
    return follower.farm.scalars("SELECT DISTINCT version_id FROM queue")


def status(follower):
    return follower.farm.scalars("SELECT status FROM packages")


# Random histories


FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["/simple/*", "/simple/", "/pypi", "*"]),
        st.sampled_from([Answer(status=500), Answer(status=404), Cut(), Cut(3), Stale(2)]),
        st.integers(1, 6),
    ),
    max_size=3,
)
STEPS = st.sampled_from(["look", "work", "work", "compare", "poll", "let_time_pass", "settle"])


@given(st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_and_fails_the_database_ends_as_pypi_is(follower, pypi, data):
    follower.forget()
    pypi.plan.clear()
    pypi.catalogue = data.draw(histories(15))
    for _ in range(data.draw(st.integers(1, 8))):
        for _ in range(data.draw(st.integers(0, 4))):
            pypi.catalogue = data.draw(continuations(pypi.catalogue))
        for fault in data.draw(FAULTS):
            pypi.fail(*fault)
        step = getattr(follower, data.draw(STEPS))
        with follower.killed_before_commit(data.draw(st.sampled_from([None, 0, 1, 2, 5]))):
            step()
    pypi.plan.clear()
    follower.follow_everything()
    follower.check(pypi.catalogue)


# What is followed


def test_all_projects_and_their_versions_are_known_and_wanted(follower, happens):
    happens(SIX.release("Zope.Interface", "5", File("zope.interface-5.zip", b"5", None)))
    assert versions(follower) == ["six 1.0", "zope-interface 5"]
    assert None not in lanes(follower)
    assert follower.farm.scalars("SELECT DISTINCT policy FROM packages") == ["missing"]


def test_projects_that_the_journal_no_longer_tells_of_are_found_in_the_list(follower, pypi):
    pypi.catalogue = SIX
    follower.farm.change("UPDATE tracking SET serial = 100000")
    follower.settle()
    assert versions(follower) == []
    follower.compare()
    follower.settle()
    assert versions(follower) == ["six 1.0"]
    assert follower.farm.scalars("SELECT unknown FROM tracking") == [1]


def test_a_change_that_the_journal_kept_to_itself_is_found_in_the_list_and_counted(
    follower, happens, pypi
):
    happens(SIX)
    pypi.catalogue = SIX.release("six", "1.1", NEWER)
    follower.farm.change("UPDATE tracking SET serial = 100000")
    follower.compare()
    follower.settle()
    assert versions(follower) == ["six 1.0", "six 1.1"]
    assert follower.farm.scalars("SELECT stale FROM tracking") == [1]


def test_a_list_that_is_cut_says_nothing_of_what_it_lacks(follower, happens, pypi):
    happens(SIX)
    follower.farm.change("UPDATE packages SET added = '2000-01-01'")
    pypi.fail("/simple/", Cut(), 3)
    follower.compare()
    assert follower.farm.scalars("SELECT count(*) FROM project_jobs") == [0]


def test_nobody_asks_for_what_nobody_follows(follower, happens):
    follower.mode = LISTED
    happens(SIX)
    assert versions(follower) == []
    assert "/simple/six/" not in follower.pypi.asked


def test_what_is_listed_has_its_old_versions_in_the_backlog_and_its_new_ones_before(
    follower, happens, pypi
):
    follower.mode = LISTED
    pypi.catalogue = SIX
    follower.add("six")
    follower.farm.change("UPDATE packages SET followed = '2001-01-01'")
    happens(SIX.release("six", "1.1", NEWER))
    assert lanes(follower) == [2, 1]


def test_what_was_built_once_is_known_but_its_new_versions_are_not_wanted(follower, happens, pypi):
    follower.mode = LISTED
    pypi.catalogue = SIX
    follower.add("six", follow=False)
    happens(SIX.release("six", "1.1", NEWER))
    assert versions(follower) == ["six 1.0", "six 1.1"]
    assert lanes(follower) == [None, None]


def test_what_a_build_of_a_listed_package_lacked_is_followed(follower, pypi):
    follower.mode = Mode(needed=True)
    pypi.catalogue = SIX.release("a", "1", File("a-1.tar.gz", b"a", None))
    follower.add("six")
    follower.farm.claim(9)
    follower.farm.end(9, 0, "build dependency unavailable", needs="a")
    assert news.follow_needed(follower.engine) == ["a"]
    assert news.follow_needed(follower.engine) == []
    follower.settle()
    assert versions(follower) == ["a 1", "six 1.0"]
    assert None not in lanes(follower)


# Changes


def test_a_yank_reaches_queue_and_pages_and_so_does_its_end(follower, happens):
    happens(SIX)
    assert waiting(follower)
    yanked = SIX.then(Yanked("six", "1.0", "broken"))
    follower.farm.change("DELETE FROM page_jobs")
    happens(yanked)
    assert not waiting(follower)
    assert follower.farm.scalars("SELECT count(*) FROM page_jobs") == [1]
    happens(yanked.then(Unyanked("six", "1.0")))
    assert waiting(follower)


def test_an_sdist_that_comes_later_is_built(follower, happens):
    wheel_only = History().release("six", "1.0", File("six-1.0-cp2-cp2-win32.whl", b"", None))
    happens(wheel_only)
    assert not waiting(follower)
    happens(wheel_only.add("six", "1.0", SDIST))
    assert waiting(follower)


def test_a_file_that_is_removed_is_not_built(follower, happens):
    happens(SIX)
    happens(SIX.then(FileRemoved("six", "1.0", SDIST.filename)))
    assert not waiting(follower)
    assert versions(follower) == ["six 1.0"]


def test_archiving_is_noticed_though_the_journal_does_not_tell(follower, happens):
    happens(SIX)
    happens(SIX.then(Archived("six", "moved")))
    assert status(follower) == ["active"]
    follower.poll()
    follower.settle()
    assert status(follower) == ["archived"]


def test_an_old_copy_of_a_page_is_not_believed(follower, happens, pypi):
    happens(SIX)
    pypi.fail("/simple/six/", Stale(SIX.last_serial()), 1)
    pypi.catalogue = SIX.release("six", "1.1", NEWER)
    follower.look()
    assert follower.work() == 1
    assert versions(follower) == ["six 1.0"]
    assert follower.work() == 0  # not at once
    follower.let_time_pass()
    follower.work()
    assert versions(follower) == ["six 1.0", "six 1.1"]


def test_what_counts_as_applied_lies_before_the_jobs_that_are_left(follower, happens, pypi):
    happens(SIX)
    pypi.catalogue = SIX.release("six", "1.1", NEWER).release("a", "1")
    follower.look()
    with transaction(follower.engine) as connection:
        progress = tracking.progress(connection)
    assert (progress.applied, progress.serial) == (4, 7)


# Projects that go, and come back


def test_a_project_that_is_missing_once_is_not_gone(follower, happens, pypi):
    happens(SIX)
    pypi.fail("/simple/six/", Answer(status=404), 1)
    follower.poll()
    assert follower.work() == 1
    assert status(follower) == ["active"]
    follower.let_time_pass()
    follower.settle()
    follower.check(SIX)


def gone(follower, happens):
    happens(SIX)
    removed = SIX.then(Removed("six"))
    happens(removed)
    return removed


def test_a_project_that_is_gone_is_neither_known_nor_built_nor_shown(follower, happens):
    gone(follower, happens)
    assert (status(follower), versions(follower)) == (["deleted"], [])
    assert not waiting(follower)
    assert follower.farm.scalars("SELECT count(*) FROM page_jobs") == [1]


def test_a_running_build_of_a_project_that_is_gone_ends(follower, happens):
    happens(SIX)
    assert follower.farm.claim(9)
    happens(SIX.then(Removed("six")))
    assert follower.farm.held(9, 0) == []


def test_files_of_a_project_that_is_gone_leave_the_disk_after_a_grace_period(follower, happens):
    happens(SIX)
    follower.farm.claim(9)
    follower.farm.end(9, 0)
    files = follower.farm.scalars("SELECT name FROM files")
    happens(SIX.then(Removed("six")))
    assert follower.farm.scalars("SELECT name FROM files") == []
    with transaction(follower.engine) as connection:
        assert projects.due_files(connection, 10) == []
    follower.farm.change("UPDATE doomed_files SET due = now()")
    with transaction(follower.engine) as connection:
        assert projects.due_files(connection, 10) == [("six", name) for name in files]


def test_a_project_that_comes_back_starts_clean(follower, happens):
    happens(SIX)
    follower.farm.claim(9)
    follower.farm.end(9, 0, "compile or source error")
    follower.farm.change("UPDATE packages SET network = true")
    removed = SIX.then(Removed("six"))
    happens(removed)
    back = removed.release("Six", "1.0", File("six-1.0.zip", b"other", None))
    happens(back)
    follower.check(back)
    (version_id,) = follower.farm.version_ids()
    assert follower.farm.states(version_id)[9].state is State.WAITING
    assert follower.farm.scalars("SELECT display_name FROM packages") == ["six"]
    assert follower.farm.scalars("SELECT network FROM packages") == [False]


def test_a_project_in_quarantine_stays_known_and_is_neither_built_nor_shown(follower, happens):
    happens(SIX)
    follower.farm.claim(9)
    happens(SIX.then(Quarantined("six", "malware")))
    assert (status(follower), versions(follower)) == (["quarantined"], ["six 1.0"])
    assert (waiting(follower), follower.farm.held(9, 0)) == ([], [])
    (version_id,) = follower.farm.version_ids()
    assert "quarantine" in follower.farm.states(version_id)[9].reason


def test_a_project_whose_quarantine_ends_is_built_again(follower, happens):
    quarantined = SIX.then(Quarantined("six", "malware"))
    happens(SIX)
    happens(quarantined)
    cleared = quarantined.then(Cleared("six"))
    happens(cleared)
    follower.check(cleared)
    assert waiting(follower)
    assert status(follower) == ["active"]


def test_the_list_finds_what_is_gone(follower, happens, pypi):
    happens(SIX)
    pypi.catalogue = SIX.then(Removed("six"))
    follower.farm.change(
        "UPDATE packages SET added = '2000-01-01'", "UPDATE tracking SET serial = 100000"
    )
    follower.compare()
    follower.settle()
    assert status(follower) == ["deleted"]
