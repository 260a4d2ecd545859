"""Steering slaves over the control socket: what is entered, and what piw-slaves says of it."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from piwheels.protocol.control import (
    FROM_OPERATOR,
    Concerned,
    Done,
    Drain,
    Failed,
    Forgive,
    Kill,
    ListSlaves,
    Pause,
    Resume,
    Skip,
)
from piwheels.protocol.status import FROM_STATUS, Following
from piwheels.transport import Subscriber, Talker, Waiter

WISHES = "SELECT label, wish FROM slaves ORDER BY label"
LEASES = "SELECT slave_id FROM leases ORDER BY 1"


@pytest.fixture
def target(operated):
    return operated.target()


@pytest.fixture
def slaves(operated, target):
    """one builds six 1.0, two builds nothing."""
    one, two = operated.slave("one", target), operated.slave("two", target)
    operated.lease(operated.version("six"), target, one)
    return one, two


def test_a_paused_slave_is_wished_to_rest_and_goes_on_with_its_build(operated, slaves):
    done = operated.steer(Pause(("one",)))
    assert done == Done((Concerned("one", is_news=True, build="six 1.0"),))
    assert operated.execute(WISHES) == [("one", "rest"), ("two", "work")]
    assert operated.execute(LEASES) == [(slaves[0],)]


def test_a_slave_paused_now_loses_its_build_without_blame(operated, slaves, target):
    operated.steer(Pause(("one",), now=True))
    assert operated.execute(LEASES) == []
    assert operated.waiting() == [("six", "1.0", target)]
    assert operated.execute("SELECT blame FROM slaves WHERE label = 'one'") == [(0,)]
    assert operated.execute("SELECT 1 FROM builds") == []


def test_a_build_that_is_being_delivered_is_not_ended(operated, slaves):
    operated.execute("UPDATE leases SET report = '{}'")
    operated.steer(Kill(("one",)))
    assert operated.execute(LEASES) == [(slaves[0],)]


def test_a_paused_slave_works_again_when_it_is_resumed(operated, slaves):
    operated.steer(Pause(("two",)))
    assert operated.steer(Resume(("two",))).slaves[0].is_news
    assert not operated.steer(Resume(("two",))).slaves[0].is_news
    assert operated.execute(WISHES) == [("one", "work"), ("two", "work")]


def test_a_drained_slave_leaves_after_its_build_and_a_killed_one_before(operated, slaves):
    operated.steer(Drain(("one",)))
    assert operated.execute(LEASES) == [(slaves[0],)]
    operated.steer(Kill(("one",)))
    assert operated.execute(LEASES) == []
    assert operated.execute(WISHES) == [("one", "leave"), ("two", "work")]


def test_a_skipped_build_does_not_come_back_on_its_target(operated, slaves, target):
    done = operated.steer(Skip("hangs there", ("one", "two")))
    assert [each.is_news for each in done.slaves] == [True, False]
    assert operated.execute(LEASES) == []
    assert operated.waiting() == []
    assert operated.execute("SELECT target_id, reason FROM skips") == [(target, "hangs there")]


def test_a_forgiven_slave_is_quarantined_no_more(operated, slaves):
    operated.execute(
        "UPDATE slaves SET quarantined = now() + interval '1 day', quarantines = 3, blame = 2"
        " WHERE label = 'two'"
    )
    done = operated.steer(Forgive(everyone=True))
    assert [(each.label, each.is_news) for each in done.slaves] == [("one", False), ("two", True)]
    assert operated.execute(
        "SELECT DISTINCT quarantined <= now(), quarantines, blame FROM slaves"
    ) == [(True, 0, 0)]


def test_everyone_is_everyone_who_is_present(operated, slaves):
    operated.execute("UPDATE slaves SET present = false WHERE label = 'two'")
    assert [each.label for each in operated.steer(Drain(everyone=True)).slaves] == ["one"]


def test_nobody_is_steered_if_one_is_not_known(operated, slaves):
    answer = operated.steer(Kill(("one", "tow")))
    assert answer == Failed("there is no slave tow", "did you mean two?")
    assert operated.execute(WISHES) == [("one", "work"), ("two", "work")]


def test_to_name_nobody_does_not_mean_all(operated, slaves):
    assert isinstance(operated.steer(Kill()), Failed)
    assert operated.execute(WISHES) == [("one", "work"), ("two", "work")]


@pytest.mark.parametrize(
    ("change", "state", "task"),
    [
        ("wish = 'work'", "idle", ""),
        ("wish = 'rest'", "paused", "paused by an operator"),
        ("wish = 'leave'", "leaving", "leaving, as an operator wants"),
        ("quarantined = '2999-01-02'", "quarantined", "quarantined until 2999-01-02 00:00 UTC"),
        ("unfit = 'it is 99 °C hot: cool it'", "unfit", "unfit: it is 99 °C hot: cool it"),
        ("last_seen = now() - interval '5 minutes'", "silent", ""),
        ("present = false", "gone", ""),
    ],
)
def test_the_state_of_a_slave_is_told_in_words(operated, target, change, state, task):
    operated.slave("pi", target)
    operated.execute(f"UPDATE slaves SET {change}")
    (listed,) = operated.steer(ListSlaves()).slaves
    assert listed.state == state
    assert listed.task.startswith(task)


def test_a_slave_that_builds_is_told_with_what_comes_after(operated, slaves):
    operated.steer(Drain(("one",)))
    (listed,) = operated.steer(ListSlaves(("one",))).slaves
    assert listed.state == "building"
    assert listed.task == "six 1.0; then leaving, as an operator wants"


def test_monitors_are_told_the_same(operated, slaves):
    operated.steer(Pause(("two",)))
    with Subscriber(operated.status.broadcaster.address) as subscriber:
        assert Waiter(subscriber).wait(30.0)
        farm = FROM_STATUS.decode(subscriber.hear())
    assert [(each.label, each.state) for each in farm.slaves] == [
        ("one", "building"),
        ("two", "paused"),
    ]
    assert [each.package for each in farm.running] == ["six"]


def test_monitors_are_told_how_far_pypi_was_followed_and_what_the_journal_missed(operated):
    operated.execute(
        "UPDATE tracking SET serial = 9, compared = '2026-01-02T03:04:05Z', unknown = 1, stale = 2"
    )
    operated.execute("INSERT INTO project_jobs (name, serial, reason) VALUES ('six', 8, 'test')")
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert operated.status.farm().following == Following(7, 1, True, moment, 1, 2, 0)


def test_monitors_are_told_so_if_nothing_was_followed_yet(operated):
    assert operated.status.farm().following == Following()
    assert FROM_STATUS.decode(FROM_STATUS.encode(operated.status.farm())).following == Following()


def test_only_its_owner_may_open_the_control_socket(operated):
    path = Path(operated.status.control.address.removeprefix("ipc://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("frame", [b"", b"\xff", b"\xa1dtypedKill", b"\x80" * 1000, b"\xa0"])
def test_a_hostile_frame_is_dropped_and_the_next_tool_is_answered(operated, slaves, frame):
    with Talker(operated.status.control.address) as talker:
        talker.say(frame)
        talker.say(FROM_OPERATOR.encode(ListSlaves()))
        assert len(operated.steer(ListSlaves()).slaves) == 2


# The command


def test_piw_slaves_lists_what_people_can_read(operated, slaves):
    head, one, two = operated.run("slaves", "list").stdout.splitlines()
    assert head.split()[:3] == ["slave", "target", "state"]
    assert "building" in one
    assert "six 1.0" in one
    assert two.split()[2] == "idle"
    assert max(map(len, (head, one, two))) <= 100


def test_piw_slaves_pauses_and_says_after_what(operated, slaves):
    assert operated.run("slaves", "pause", "one").stdout == "one: gets no more work after six 1.0\n"
    again = operated.run("slaves", "pause", "one", "--now")
    assert again.stdout == "one: gets no more work; six 1.0 is built by another\n"
    assert operated.execute(LEASES) == []


def test_piw_slaves_kills_only_if_it_is_sure(operated, slaves):
    doubtful = operated.run("slaves", "kill", "--all")
    assert (doubtful.returncode, operated.execute(LEASES)) == (2, [(slaves[0],)])
    sure = operated.run("slaves", "drain", "--all", "--now", "--yes", "--json")
    assert sure.returncode == 0
    assert json.loads(sure.stdout)["slaves"][0] == {
        "label": "one",
        "is_news": True,
        "build": "six 1.0",
    }
    assert operated.execute(WISHES) == [("one", "leave"), ("two", "leave")]


@pytest.mark.parametrize("words", [["pause"], ["pause", "one", "--all"]])
def test_piw_slaves_wants_slaves_named_or_all(operated, slaves, words):
    done = operated.run("slaves", *words)
    assert (done.returncode, "LABEL" in done.stderr) == (2, True)
    assert operated.execute(WISHES) == [("one", "work"), ("two", "work")]


def test_piw_slaves_skips_with_a_reason(operated, slaves):
    done = operated.run("slaves", "skip", "one", "two", "--reason", "hangs", "-y")
    assert done.stdout == "one: six 1.0 is skipped\ntwo: it builds nothing\n"
    assert operated.execute("SELECT reason FROM skips") == [("hangs",)]
