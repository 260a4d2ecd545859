"""The tracker as it runs: with its threads, its waits and its way of ending."""

import threading
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url, text

from piwheels.database.connection import connect, transaction
from piwheels.master.tracker import Settings, Tracker
from piwheels.model.following import Mode
from piwheels.pypi import Journal, PyPI
from tests.database.followed_pypi import ALL, LISTED
from tests.history import File, History
from tests.postgres_fixture import cursor
from tests.scripted_pypi import Answer, limited, scripted_pypi

PATIENCE = 60.0  # seconds; what is late fails the test, what is in time ends the wait
SIX = History().release("six", "1.0", File("six-1.0.tar.gz", b"1.0", None))
SEVEN = SIX.release("seven", "1.0", File("seven-1.0.tar.gz", b"7", None))


@pytest.fixture
def pypi():
    with scripted_pypi(SIX) as server:
        yield server


@pytest.fixture
def engine(farm_database):
    engine = connect(farm_database)
    yield engine
    engine.dispose()


@contextmanager
def tracking(engine, pypi, mode=ALL, **settings):
    """A tracker that runs; raises what ended it."""
    stop, beats, failed = threading.Event(), [], []
    with (
        PyPI(pypi.simple_url, pause=0.0) as client,
        Journal(pypi.journal_url, pause=0.0) as journal,
    ):
        quick = {"journal": 0.05, "poll_pause": 0.05, **settings}
        tracker = Tracker(engine, client, journal, Settings(mode, **quick))

        def serve():
            try:
                tracker.serve(stop.is_set, lambda: beats.append(1))
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield tracker
        finally:
            stop.set()
            thread.join()
    assert beats
    assert failed == []


def ask(engine, statement):
    with transaction(engine) as connection:
        return list(connection.execute(text(statement)).scalars())


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def names(engine):
    return ask(engine, "SELECT DISTINCT name FROM packages JOIN versions USING (package_id)")


def test_news_on_pypi_is_in_the_database_soon(engine, pypi):
    with tracking(engine, pypi):
        wait_until(lambda: names(engine) == ["six"])
        pypi.catalogue = SEVEN
        wait_until(lambda: sorted(names(engine)) == ["seven", "six"])


def test_an_index_that_wants_to_be_left_alone_is_asked_later(engine, pypi):
    pypi.fail("*", limited("1"), 3)
    with tracking(engine, pypi):
        wait_until(lambda: names(engine) == ["six"])


def test_one_project_in_trouble_holds_up_no_other(engine, pypi):
    pypi.catalogue = SEVEN
    pypi.fail("/simple/seven/", Answer(status=500))
    with tracking(engine, pypi):
        wait_until(lambda: names(engine) == ["six"])
        wait_until(lambda: ask(engine, "SELECT attempts > 0 FROM project_jobs") == [True])


def test_without_a_journal_followed_pages_are_read_again(engine, pypi):
    pypi.fail("/pypi", Answer(status=404))
    with tracking(engine, pypi, poll=0.1):
        wait_until(lambda: names(engine) == ["six"])  # from the list
        pypi.catalogue = SIX.release("six", "1.1", File("six-1.1.tar.gz", b"1.1", None))
        wait_until(lambda: ask(engine, "SELECT count(*) FROM versions") == [2])
    assert ask(engine, "SELECT has_journal FROM tracking") == [False]


def test_a_tracker_that_is_told_to_end_gives_its_jobs_back(engine, pypi):
    pypi.catalogue = SEVEN
    pypi.fail("/simple/*", limited("3600"))
    taken = "SELECT count(*) FROM project_jobs WHERE not_before > '-infinity'"
    with tracking(engine, pypi):
        wait_until(lambda: ask(engine, taken) == [2])
    assert ask(engine, taken) == [0]


def test_a_database_that_is_away_for_a_while_is_waited_for(engine, pypi, postgres):
    name = make_url(str(engine.url)).database
    with tracking(engine, pypi), cursor(postgres) as statements:
        wait_until(lambda: names(engine) == ["six"])
        statements.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        statements.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        pypi.catalogue = SEVEN
        statements.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        wait_until(lambda: sorted(names(engine)) == ["seven", "six"])


def test_two_trackers_at_once_do_what_one_does(engine, pypi):
    with tracking(engine, pypi), tracking(engine, pypi):
        wait_until(lambda: names(engine) == ["six"])
        pypi.catalogue = SEVEN
        wait_until(lambda: sorted(names(engine)) == ["seven", "six"])


def test_the_most_popular_are_followed_and_counted(engine, pypi, tmp_path):
    pypi.catalogue = SEVEN
    counts = tmp_path / "counts.csv"
    counts.write_text("project,downloads\nSix,70\nseven,7\n")
    with tracking(engine, pypi, Mode(top=1), popularity=str(counts)):
        wait_until(lambda: names(engine) == ["six"])
    rows = "SELECT (name, popularity, follow, policy)::text FROM packages"
    assert ask(engine, rows) == ["(six,70,popular,missing)"]


def test_counts_that_cannot_be_read_hold_up_nothing(engine, pypi, tmp_path):
    with tracking(engine, pypi, popularity=str(tmp_path / "nothing")):
        wait_until(lambda: names(engine) == ["six"])


def test_popularity_reaches_what_waits(engine, pypi, tmp_path):
    counts = tmp_path / "counts.json"
    counts.write_text('[["six", 70000000000]]')
    with tracking(engine, pypi, LISTED, popularity=str(counts)):
        with transaction(engine) as connection:
            connection.execute(text("INSERT INTO packages (name, display_name) VALUES ('six', '')"))
            connection.execute(text("UPDATE tracking SET counted = '-infinity'"))
        wait_until(lambda: ask(engine, "SELECT popularity FROM packages") == [2**31 - 1])
