"""The words for how a version stands, and when it begins, from values alone."""

from datetime import UTC, datetime, timedelta

import pytest

from piwheels.model.queue import State, Verdict
from piwheels.model.slaves import Slave
from piwheels.model.standings import Attempt, FullStanding, Place, Running
from piwheels.model.targets import Target
from piwheels.rules.resources import in_words as memory
from piwheels.rules.slave_state import SlaveState, state_of, task_of
from piwheels.rules.standings import (
    begins,
    cause_and_fix,
    in_words,
    lane_in_words,
    next_step,
    obstacle,
    roughly,
)

NOW = datetime(2024, 12, 4, 12, tzinfo=UTC)
LONG_AGO = datetime.min.replace(tzinfo=UTC)
TARGET = Target(1, "cp311-linux_armv7l", "3.11.2", 1, True, frozenset())


def slave(label="pi", **details):
    usual = {
        "slave_id": 1,
        "target_id": 1,
        "size": 2,
        "present": True,
        "last_seen": NOW,
        "wish": "work",
        "quarantined": LONG_AGO,
        "unfit": "",
    }
    return Slave(label=label, **{**usual, **details})


def waiting(*slaves, ahead=0, size=0, pace=60.0, not_before=None, is_more=False, attempts=0):
    place = Place(1, size, not_before, ahead, is_more)
    verdict = Verdict(State.WAITING, attempts=attempts)
    return FullStanding("six", "1.0", TARGET, verdict, place=place, slaves=slaves, pace=pace)


def test_a_busy_slave_begins_after_all_that_come_first_and_its_own_build():
    standing = waiting(slave(build="x"), ahead=9)
    assert begins(standing, NOW) == NOW + timedelta(minutes=10)


def test_twice_as_many_slaves_begin_in_half_the_time():
    standing = waiting(slave(build="x"), slave("other", build="y"), ahead=9)
    assert begins(standing, NOW) == NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    "idle",
    [
        {"wish": "rest"},
        {"quarantined": NOW + timedelta(1)},
        {"unfit": "hot"},
        {"last_seen": NOW - timedelta(1)},
        {"present": False},
    ],
)
def test_slaves_that_get_no_work_do_not_count(idle):
    standing = waiting(slave(build="x"), slave("other", **idle), ahead=9)
    assert begins(standing, NOW) == NOW + timedelta(minutes=10)


def test_a_retry_does_not_begin_before_its_time():
    later = NOW + timedelta(hours=1)
    assert begins(waiting(slave(), not_before=later), NOW) == later


def test_nobody_knows_without_a_pace_or_without_a_slave():
    assert begins(waiting(slave(), pace=None), NOW) is None
    assert begins(waiting(), NOW) is None
    assert begins(waiting(slave(), size=3), NOW) is None


def test_a_place_beyond_what_is_counted_is_said_to_be_more():
    words = in_words(waiting(slave(build="x"), ahead=100_000, is_more=True), NOW)
    assert "behind more than 100,000 builds" in words
    assert "more than 69 days" in words


def test_a_slave_too_small_is_no_obstacle_where_another_is_large_enough():
    standing = waiting(slave(size=0), slave("large", size=3), size=3)
    assert obstacle(standing, NOW) == ("", "")


def test_what_no_slave_is_large_enough_for_is_told_with_both_sizes():
    why, _ = obstacle(waiting(slave(size=3), size=4), NOW)
    assert why == (
        f"it needs a slave with {memory(4)} of memory, and the largest here has {memory(3)}"
    )


def test_of_large_slaves_that_do_not_work_only_a_few_are_named():
    many = [slave(f"pi-{n}", wish="rest", size=3) for n in range(5)]
    why, step = obstacle(waiting(slave("small", size=0), *many, size=3), NOW)
    assert why.startswith("none of its large slaves get work: pi-0 is paused")
    assert why.endswith("and 2 more")
    assert "piw-slaves resume" in step


def test_a_slave_that_builds_and_then_leaves_does_not_take_what_waits():
    why, _ = obstacle(waiting(slave(build="x", wish="leave")), NOW)
    assert why == "none of its slaves get work: pi is leaving, as an operator wants"


def test_a_build_that_takes_longer_than_others_did_is_said_to():
    running = Running("pi", "building", NOW - timedelta(hours=1), 60.0)
    standing = FullStanding("six", "1.0", TARGET, Verdict(State.BUILDING), running=running)
    assert in_words(standing, NOW) == (
        "pi is building, since 60 min; longer than such builds took so far (1 min)"
    )


FAILED = Attempt("failure", "out of memory", "killed", "", "logs/1", NOW)


@pytest.mark.parametrize(
    ("verdict", "cause"),
    [
        (Verdict(State.FAILED, "out of memory", attempts=2), "killed"),
        (Verdict(State.WAITING, "out of memory", attempts=1), "killed"),
        (Verdict(State.BUILDING), "killed"),
        (Verdict(State.WAITING), ""),
        (Verdict(State.SKIPPED, "spam"), "spam"),
        (Verdict(State.DONE, "PyPI has a wheel"), "PyPI has a wheel"),
    ],
)
def test_a_failure_is_told_for_as_long_as_it_stands_in_the_way(verdict, cause):
    assert cause_and_fix(verdict, FAILED)[0] == cause


def test_what_waits_for_a_larger_slave_says_so_as_its_fix():
    verdict = Verdict(State.HELD, "out of memory: no slave has 4 GiB of memory", attempts=1)
    assert cause_and_fix(verdict, FAILED) == ("killed", verdict.reason)


@pytest.mark.parametrize("state", State)
def test_every_state_has_words(state):
    standing = FullStanding("six", "1.0", TARGET, Verdict(state, "reason"))
    assert in_words(standing, NOW)
    assert next_step(standing, NOW) is not None


def test_every_lane_has_words():
    assert len({lane_in_words(lane) for lane in range(5)}) == 5


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=-5), "less than a minute"),
        (timedelta(seconds=20), "less than a minute"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(minutes=89), "89 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=3), "3 days"),
    ],
)
def test_lengths_of_time_are_told_as_people_do(length, words):
    assert roughly(length) == words


# Slaves


@pytest.mark.parametrize(
    ("details", "state"),
    [
        ({}, SlaveState.IDLE),
        ({"build": "six 1.0"}, SlaveState.BUILDING),
        ({"build": "six 1.0", "wish": "rest"}, SlaveState.BUILDING),
        ({"wish": "rest", "unfit": "hot"}, SlaveState.PAUSED),
        ({"quarantined": NOW + timedelta(1), "unfit": "hot"}, SlaveState.QUARANTINED),
        ({"quarantined": NOW - timedelta(1)}, SlaveState.IDLE),
        ({"build": "six 1.0", "last_seen": NOW - timedelta(hours=1)}, SlaveState.SILENT),
        ({"wish": "rest", "present": False}, SlaveState.GONE),
    ],
)
def test_a_slave_is_in_the_state_that_says_most(details, state):
    assert state_of(slave(**details), NOW) is state


def test_an_idle_slave_has_no_task_and_a_busy_one_says_what_comes_then():
    assert task_of(slave(), NOW) == ""
    assert task_of(slave(build="six 1.0"), NOW) == "six 1.0"
    assert task_of(slave(build="six 1.0", unfit="hot"), NOW) == "six 1.0; then unfit: hot"
