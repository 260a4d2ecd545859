"""An operator steers, and slaves follow: control socket, database, dispatcher, slave's socket."""

import threading
from datetime import UTC, datetime

import pytest

from piwheels.master.dispatcher import Dispatcher
from piwheels.master.turn import Settings
from piwheels.model.builds import Phase
from piwheels.protocol.admin import Why
from piwheels.protocol.control import Drain, Forgive, Kill, Pause, Resume, Skip
from piwheels.protocol.slave import (
    FROM_SLAVE,
    PROTOCOL,
    TO_SLAVE,
    Ack,
    Build,
    Busy,
    Cancel,
    Continue,
    Die,
    Hello,
    Idle,
    OfferedTarget,
    Resources,
    Sleep,
)
from piwheels.rules.slave_session import Timing
from piwheels.transport import Caller, Waiter

TARGET = OfferedTarget(
    "cp311-linux_armv7l", "CPython 3.11", "3.11.2", ("cp311-cp311-linux_armv7l",)
)
TIMING = Timing(heartbeat=60, silence=60, lease=300, patience=0.5)


class Slave:
    """A slave that says what a test wants."""

    def __init__(self, address):
        self.address = address
        self.caller = Caller(address)
        hello = Hello(
            PROTOCOL,
            "pi",
            TARGET,
            Resources(1, 2**31, 2**34),
            datetime.now(UTC),
            run=bytes(15) + b"1",
        )
        assert isinstance(self.ask(hello), Ack)

    def ask(self, message):
        self.caller.ask(FROM_SLAVE.encode(message))
        assert Waiter(self.caller).wait(30.0), "no answer"
        return TO_SLAVE.decode(self.caller.answer())

    def take(self):
        """Say IDLE until there is a build."""
        while not isinstance(answer := self.ask(Idle()), Build):
            assert isinstance(answer, Sleep)
        return answer

    def beat(self, build):
        return self.ask(Busy(build.lease, Phase.BUILDING))


@pytest.fixture
def slave(operated):
    stop = threading.Event()
    dispatcher = Dispatcher(operated.engine, "tcp://127.0.0.1:*", Settings(timing=TIMING))
    thread = threading.Thread(target=dispatcher.serve, args=(stop.is_set, lambda: None))
    thread.start()
    try:
        yield Slave(dispatcher.listener.address)
    finally:
        stop.set()
        thread.join()


def test_a_paused_slave_ends_its_build_and_gets_none_until_it_is_resumed(operated, slave):
    operated.version("six")
    operated.version("next")
    first = slave.take()
    operated.steer(Pause(("pi",)))
    assert isinstance(slave.beat(first), Continue)
    operated.execute("DELETE FROM leases")  # the build ended
    answer = slave.ask(Idle())
    assert isinstance(answer, Sleep)
    assert "paused" in answer.reason
    operated.steer(Resume(("pi",)))
    assert slave.take().package != first.package


def test_a_slave_that_is_paused_now_hears_so_with_its_next_heartbeat(operated, slave):
    operated.version("six")
    build = slave.take()
    operated.steer(Pause(("pi",), now=True))
    assert isinstance(slave.beat(build), Cancel)
    assert operated.waiting() == [("six", "1.0", 1)]
    assert operated.execute("SELECT blame FROM slaves") == [(0,)]


def test_a_drained_slave_is_sent_away_when_it_asks_for_work(operated, slave):
    operated.version("six")
    build = slave.take()
    operated.steer(Drain(("pi",)))
    assert isinstance(slave.beat(build), Continue)
    operated.execute("DELETE FROM leases")
    assert isinstance(slave.ask(Idle()), Die)


def test_a_killed_slave_loses_its_build_and_is_sent_away(operated, slave):
    operated.version("six")
    build = slave.take()
    operated.steer(Kill(("pi",)))
    assert isinstance(slave.beat(build), Cancel)
    assert isinstance(slave.ask(Idle()), Die)


def test_a_skipped_build_ends_and_the_slave_gets_another(operated, slave):
    operated.version("six")
    build = slave.take()
    operated.version("next")
    operated.steer(Skip("hangs", ("pi",)))
    assert isinstance(slave.beat(build), Cancel)
    assert slave.take().package == "next"
    (standing,) = operated.ask(Why("six")).standings
    assert (standing.state, standing.words) == ("skipped", "hangs")


def test_a_forgiven_slave_gets_work_again(operated, slave):
    operated.version("six")
    operated.execute("UPDATE slaves SET quarantined = now() + interval '1 day'")
    answer = slave.ask(Idle())
    assert isinstance(answer, Sleep)
    assert "quarantine" in answer.reason
    operated.steer(Forgive(("pi",)))
    assert slave.take().package == "six"
