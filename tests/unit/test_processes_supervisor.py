import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from piwheels.model.errors import BadConfiguration
from piwheels.processes.child import Child, Command, Restart
from piwheels.processes.descendants import Process
from piwheels.processes.heart import Heart
from piwheels.processes.supervisor import (
    Died,
    Ready,
    Restarting,
    Silent,
    Started,
    Stopping,
    Supervisor,
)

SLEEP = Command(["sleep", "1000"])
# Says that it is ready as any program can, in any language.
SAY_READY = "echo ready > /proc/self/fd/$PIW_HEART"


class Farm:
    """A supervisor in a process of its own, and what it says of its children.

    Every process below it holds one end of the leash, so that its end shows theirs.
    """

    def __init__(self, *children: Child, main: Callable = Supervisor.run, **options: Any) -> None:
        events, voice = os.pipe()
        self.leash, held = os.pipe()
        self.said: list[Any] = []
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self.leash)
                os.set_inheritable(held, True)
                with os.fdopen(voice, "wb", buffering=0) as speech:
                    status = self._be(speech, children, main, options)
            finally:
                os._exit(status)
        os.close(voice)
        os.close(held)
        self._events = os.fdopen(events, "rb")

    def _be(self, speech, children, main, options) -> int:
        def say(thing: Any) -> None:
            speech.write(pickle.dumps(thing))

        supervisor = Supervisor(
            children,
            on_event=say,
            on_ready=lambda: say("all ready"),
            notify=lambda *lines: say(lines),
            **options,
        )
        return main(supervisor)

    def wait(self, kind: type, name: str | None = None) -> Any:
        """Return the next event of this kind, of this child."""
        while True:
            self.said.append(pickle.load(self._events))
            event = self.said[-1]
            if isinstance(event, kind) and name in (None, getattr(event, "name", None)):
                return event

    def wait_until_said(self, thing: object) -> None:
        while not self.said or self.said[-1] != thing:
            self.said.append(pickle.load(self._events))

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def status(self) -> int:
        """Take in all that it still says, and return how it ended."""
        while True:
            try:
                self.said.append(pickle.load(self._events))
            except EOFError:
                return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def is_gone(self) -> bool:
        """Whether no process below it is left, or none will be in a while."""
        ended, _, _ = select.select([self.leash], [], [], 30)
        return bool(ended) and os.read(self.leash, 1) == b""

    def close(self) -> None:
        self._events.close()
        os.close(self.leash)


@pytest.fixture
def farm() -> Iterator[Callable[..., Farm]]:
    farms: list[Farm] = []

    def started(*children: Child, **options: Any) -> Farm:
        farms.append(Farm(*children, **options))
        return farms[-1]

    yield started
    for each in farms:
        if Process.read(each.pid):
            each.signal(signal.SIGTERM)
            each.status()
        each.close()


def sleep(heart: Heart) -> None:
    heart.ready()
    time.sleep(1000)


@pytest.mark.parametrize("start", [sleep, SLEEP], ids=["function", "command"])
def test_a_child_that_is_killed_starts_again(farm, start):
    it = farm(Child("worker", start))
    first = it.wait(Started, "worker").pid
    os.kill(first, signal.SIGKILL)
    assert it.wait(Died, "worker").status == -signal.SIGKILL
    assert it.wait(Restarting, "worker").seconds == 0
    assert it.wait(Started, "worker").pid != first


def test_a_child_that_dies_again_and_again_is_restarted_ever_later(farm):
    it = farm(Child("worker", Command(["false"])))
    assert it.wait(Restarting).seconds == 0
    assert 0.5 < it.wait(Restarting).seconds <= 1
    assert 1.5 < it.wait(Restarting).seconds <= 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_every_child_in_order(farm, number):
    it = farm(Child("function", sleep), Child("command", SLEEP))
    it.wait_until_said("all ready")
    it.signal(number)
    assert it.status() == 0
    assert it.is_gone()
    deaths = {event.name: event.status for event in it.said if isinstance(event, Died)}
    assert deaths == {"function": -signal.SIGTERM, "command": -signal.SIGTERM}


def ignore_sigterm(heart: Heart) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep(heart)


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(farm):
    it = farm(Child("deaf", ignore_sigterm, reports_ready=True), grace=0.2)
    it.wait(Ready, "deaf")
    it.signal(signal.SIGTERM)
    assert it.status() == 0
    assert it.is_gone()
    assert it.said[-1] == Died("deaf", -signal.SIGKILL, "")


def test_a_stop_reaches_grandchildren_that_escaped_into_a_session_of_their_own(farm):
    script = f"(setsid sleep 1000 &); {SAY_READY}; exec sleep 1000"
    it = farm(Child("parent", Command(["sh", "-c", script]), reports_ready=True))
    it.wait(Ready, "parent")
    it.signal(signal.SIGTERM)
    assert it.status() == 0
    assert it.is_gone()


def test_what_a_dead_child_leaves_behind_is_gone_before_it_starts_again(farm, tmp_path):
    note = tmp_path / "pid"
    script = f"setsid sleep 1000 & echo $! > {note}.new; mv {note}.new {note}; {SAY_READY}; wait"
    it = farm(Child("parent", Command(["sh", "-c", script]), reports_ready=True))
    parent = it.wait(Started, "parent").pid
    it.wait(Ready, "parent")
    left_behind = Process.read(int(note.read_text()))
    os.kill(parent, signal.SIGKILL)
    it.wait(Started, "parent")
    assert left_behind.is_alive
    assert Process.read(left_behind.pid) != left_behind


@pytest.mark.parametrize("start", [sleep, SLEEP], ids=["function", "command"])
def test_no_child_survives_a_kill_of_the_supervisor(farm, start):
    it = farm(Child("worker", start))
    it.wait(Ready, "worker")
    it.signal(signal.SIGKILL)
    assert it.status() == -signal.SIGKILL
    assert it.is_gone()


def supervise_an_escapee(heart: Heart) -> None:
    """Be to the supervisor what a slave is to a farm."""
    script = f"(setsid sleep 1000 &); {SAY_READY}; exec sleep 1000"
    build = Child("build", Command(["sh", "-c", script]), reports_ready=True)
    Supervisor([build], on_ready=heart.ready).run()


def test_no_grandchild_survives_a_kill_of_the_supervisor_of_supervisors(farm):
    it = farm(Child("inner", supervise_an_escapee, reports_ready=True))
    it.wait(Ready, "inner")
    it.signal(signal.SIGKILL)
    assert it.status() == -signal.SIGKILL
    assert it.is_gone()


def test_all_are_ready_when_the_last_one_says_so(farm, tmp_path):
    os.mkfifo(tmp_path / "go")
    script = f"read line < {tmp_path}/go; {SAY_READY}; exec sleep 1000"
    it = farm(
        Child("early", sleep, reports_ready=True),
        Child("late", Command(["sh", "-c", script]), reports_ready=True),
    )
    it.wait(Ready, "early")
    (tmp_path / "go").write_text("go\n")
    it.wait(Ready, "late")
    assert "all ready" not in it.said
    it.wait_until_said("all ready")


def test_the_service_manager_hears_of_readiness_life_and_the_end(farm):
    it = farm(Child("worker", sleep, reports_ready=True), watchdog=0.1)
    it.wait_until_said(("READY=1",))
    it.wait_until_said(("WATCHDOG=1",))
    it.said.clear()
    it.wait_until_said(("WATCHDOG=1",))
    it.signal(signal.SIGTERM)
    it.status()
    assert ("STOPPING=1", "STATUS=stopping: SIGTERM") in it.said


def beat_once(heart: Heart) -> None:
    heart.beat()
    time.sleep(1000)


def test_a_child_that_breaks_its_promise_of_beats_is_killed_and_starts_again(farm):
    it = farm(Child("stuck", beat_once, silence=0.2))
    assert it.wait(Silent, "stuck").seconds >= 0.2
    assert it.wait(Died, "stuck").status == -signal.SIGKILL
    it.wait(Started, "stuck")


def stay_silent_for_a_while(heart: Heart) -> None:
    time.sleep(0.3)
    sys.exit(3)


def test_a_child_that_promised_no_beats_may_be_silent(farm):
    it = farm(Child("quiet", stay_silent_for_a_while, silence=0.05))
    assert it.wait(Died, "quiet").status == 3
    assert not any(isinstance(event, Silent) for event in it.said)


def beat_for_a_while(heart: Heart) -> None:
    for _ in range(20):
        heart.beat()
        time.sleep(0.05)
    sys.exit(4)


def test_a_child_that_keeps_its_promise_is_left_alone(farm):
    it = farm(Child("lively", beat_for_a_while, silence=30.0))
    assert it.wait(Died, "lively").status == 4
    assert not any(isinstance(event, Silent) for event in it.said)


def find_fault(heart: Heart) -> None:
    raise BadConfiguration("the schema is of version 3:\nrun piw-initdb")


def test_a_child_whose_configuration_is_wrong_ends_everything(farm):
    it = farm(Child("fine", sleep), Child("wrong", find_fault))
    assert it.status() == os.EX_CONFIG
    assert it.is_gone()
    words = "the schema is of version 3: run piw-initdb"
    assert Died("wrong", os.EX_CONFIG, words) in it.said
    assert Stopping(f"wrong: {words}") in it.said
    assert not any(isinstance(event, Restarting) for event in it.said)


def test_the_last_words_of_a_command_are_the_last_line_of_its_log(farm, tmp_path):
    command = Command(["sh", "-c", "echo no port >&2; echo; exit 78"], log=tmp_path / "log")
    it = farm(Child("command", command))
    assert it.status() == 78
    assert it.said[-1] == ("STATUS=0 of 1 ready",) or Died("command", 78, "no port") in it.said
    assert Died("command", 78, "no port") in it.said
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def fail(heart: Heart) -> None:
    raise ValueError("no good")


def test_a_function_that_raises_dies_with_that_as_its_last_words(farm):
    it = farm(Child("worker", fail))
    assert it.wait(Died) == Died("worker", os.EX_SOFTWARE, "ValueError: no good")


def test_a_command_that_does_not_exist_says_so(farm):
    it = farm(Child("worker", Command(["/no/such/program"])))
    death = it.wait(Died)
    assert death.status == 127
    assert "/no/such/program" in death.last_words


def test_a_supervisor_ends_when_nothing_is_left_to_restart(farm):
    it = farm(
        Child("once", Command(["false"]), restart=Restart.NEVER),
        Child("until it works", Command(["true"]), restart=Restart.ON_FAILURE),
    )
    assert it.status() == 0
    assert not any(isinstance(event, Restarting) for event in it.said)


def test_what_must_work_starts_again_until_it_does(farm, tmp_path):
    script = f"test -e {tmp_path}/tried || {{ touch {tmp_path}/tried; exit 1; }}"
    it = farm(Child("worker", Command(["sh", "-c", script]), restart=Restart.ON_FAILURE))
    assert it.status() == 0
    assert [event.status for event in it.said if isinstance(event, Died)] == [1, 0]


def test_what_others_need_ends_after_them_by_its_own_signal(farm):
    script = f"trap 'sleep 0.2; exit 0' TERM; {SAY_READY}; while :; do sleep 0.05; done"
    it = farm(
        Child("database", sleep, stop_signal=signal.SIGINT, stops_last=True),
        Child("service", Command(["sh", "-c", script]), reports_ready=True),
    )
    it.wait_until_said("all ready")
    it.signal(signal.SIGTERM)
    assert it.status() == 0
    deaths = [(event.name, event.status) for event in it.said if isinstance(event, Died)]
    assert deaths == [("service", 0), ("database", -signal.SIGINT)]


def add_one_while_running(supervisor: Supervisor) -> int:
    with supervisor:
        while not supervisor.is_ready("first"):
            supervisor.poll(1.0)
        supervisor.add(Child("second", sleep))
        while not supervisor.is_ready("second"):
            supervisor.poll(1.0)
    return supervisor.status


def test_a_child_added_while_running_is_started_and_ended_like_the_first(farm):
    it = farm(Child("first", sleep, reports_ready=True), main=add_one_while_running)
    assert it.status() == 0
    assert it.is_gone()
    assert {event.name for event in it.said if isinstance(event, Died)} == {"first", "second"}


def test_two_children_cannot_share_a_name():
    with pytest.raises(ValueError, match="two children named worker"):
        Supervisor([Child("worker", sleep), Child("worker", SLEEP)])


def test_a_child_leads_a_session_reads_nothing_and_lives_where_it_was_told(farm, tmp_path):
    script = "ps -o sid= -p $$; echo $$; cat; pwd; echo $COLOUR"
    command = Command(
        ["sh", "-c", script],
        environment={"PATH": os.environ["PATH"], "COLOUR": "green"},
        directory=tmp_path,
        log=tmp_path / "log",
    )
    it = farm(Child("worker", command, restart=Restart.NEVER))
    assert it.status() == 0
    session, pid, *rest = (tmp_path / "log").read_text().split()
    assert session == pid
    assert rest == [str(tmp_path), "green"]
