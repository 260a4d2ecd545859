"""The dispatcher over real sockets and a real database, against slaves that we speak for."""

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from piwheels.database import uploads, versions
from piwheels.database.connection import connect, transaction
from piwheels.master import queue
from piwheels.master.dispatcher import Dispatcher
from piwheels.master.keeper import Keeper
from piwheels.master.turn import Settings
from piwheels.model.builds import FailureClass, Outcome, Phase, Sdist
from piwheels.model.projects import ProjectPage, ProjectVersion
from piwheels.protocol.slave import (
    FROM_SLAVE,
    LOG_NAME,
    PROTOCOL,
    TO_SLAVE,
    Ack,
    Build,
    Built,
    Busy,
    Bye,
    Cancel,
    Continue,
    DeliveredFile,
    Die,
    Done,
    Health,
    Hello,
    Idle,
    OfferedTarget,
    Resources,
    Send,
    Sent,
    Sleep,
    Who,
)
from piwheels.rules.project_diff import diff
from piwheels.rules.slave_session import Timing
from piwheels.transport import Caller, Talker, Waiter
from tests.addresses import once_free

TARGET = OfferedTarget(
    "cp311-linux_x86_64",
    "CPython 3.11 on Debian 12",
    "3.11.2",
    ("cp311-cp311-linux_x86_64", "py3-none-any"),
)
LOG = DeliveredFile(LOG_NAME, 10, "0" * 64)
WHEEL = DeliveredFile("tiny-1.0-py3-none-any.whl", 10, "1" * 64)
LONG = Timing(heartbeat=60, silence=60, lease=300, patience=0.5)
PATIENCE = 4.0  # seconds


class Slave:
    """A slave that says what a test wants."""

    def __init__(self, address, label="pi"):
        self.caller = Caller(address)
        self.hello = Hello(PROTOCOL, label, TARGET, Resources(), datetime.now(UTC))

    def ask(self, message):
        """What is lost with a dispatcher that ends is asked again, as real slaves do."""
        for _ in range(15):
            self.caller.ask(FROM_SLAVE.encode(message))
            if Waiter(self.caller).wait(PATIENCE):
                break
        return self.hear()

    def hear(self):
        """The answer to what was asked last; answers to what was asked before are dropped."""
        while (frame := self.caller.answer()) is None:
            assert Waiter(self.caller).wait(30.0), "no answer"
        return TO_SLAVE.decode(frame)

    def greet(self, lease=None):
        return self.ask(replace(self.hello, lease=lease))

    def take(self):
        """Say IDLE until there is a build."""
        while not isinstance(answer := self.ask(Idle()), Build):
            assert isinstance(answer, Sleep)
        return answer


class Scene:
    """A database with versions to build, and a dispatcher that may come and go."""

    def __init__(self, dsn):
        self.engine = connect(dsn)
        self.address = "tcp://127.0.0.1:*"

    @contextmanager
    def dispatcher(self, timing=LONG, is_another=False):
        stop = threading.Event()
        settings = Settings(timing=timing)
        address = "tcp://127.0.0.1:*" if is_another else self.address
        dispatcher = once_free(lambda: Dispatcher(self.engine, address, settings))
        if not is_another:
            self.address = dispatcher.listener.address  # the next one listens there too
        thread = threading.Thread(target=dispatcher.serve, args=(stop.is_set, lambda: None))
        thread.start()
        try:
            yield dispatcher.listener.address
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def keeper(self):
        stop = threading.Event()
        keeper = Keeper(self.engine)
        thread = threading.Thread(target=keeper.serve, args=(stop.is_set, lambda: None))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def want(self, package="tiny", version="1.0"):
        sdist = Sdist(f"{package}-{version}.tar.gz", "http://127.0.0.1/x", "a" * 64, 1)
        page = ProjectPage(package, package, (ProjectVersion(version, sdist=sdist),))
        with transaction(self.engine) as connection:
            versions.enter(connection, page)
            changes = diff(versions.known(connection, package), page)
            changed = versions.apply(connection, page, changes)
            changed.add(versions.want(connection, package, version, 0))
            queue.refresh(connection, changed)

    def place(self, token, *names):
        """Do the receiver's work."""
        with transaction(self.engine) as connection:
            for name in names:
                expected = uploads.expected(connection, token, name)
                placed = {"log": "logs/0000/0000/0001.txt.gz"}
                if name != LOG_NAME:
                    placed = {
                        "name": name,
                        "size": expected.size,
                        "sha256": expected.sha256,
                        "metadata_sha256": "2" * 64,
                        "tags": ["py3-none-any"],
                        "requires_python": "",
                        "summary": "",
                    }
                uploads.record_placed(connection, expected.build_id, name, placed)

    def rows(self, statement, **values):
        with transaction(self.engine) as connection:
            return connection.execute(text(statement), values).all()

    def change(self, statement):
        with transaction(self.engine) as connection:
            connection.execute(text(statement))


@pytest.fixture
def scene(farm_database):
    scene = Scene(farm_database)
    yield scene
    scene.engine.dispose()


@pytest.fixture
def address(scene):
    with scene.dispatcher() as address:
        yield address


@pytest.fixture
def slave(address):
    slave = Slave(address)
    assert isinstance(slave.greet(), Ack)
    return slave


def settle(scene):
    """What the keeper does about a target that is new."""
    Keeper(scene.engine).keep()


def built(order, **changes):
    return replace(Built(order.lease, Outcome.SUCCESS, 1.0, LOG, (WHEEL,)), **changes)


def finish(scene, slave, order):
    assert slave.ask(built(order)) == Send((LOG_NAME, WHEEL.name))
    scene.place(order.lease, LOG_NAME, WHEEL.name)
    assert slave.ask(Sent(order.lease)) == Done()


def test_a_build_goes_from_idle_to_done_and_is_on_record(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    assert (order.package, order.version) == ("tiny", "1.0")
    assert slave.ask(Busy(order.lease, Phase.BUILDING)) == Continue()
    finish(scene, slave, order)
    assert scene.rows("SELECT outcome FROM builds") == [("success",)]
    assert scene.rows("SELECT name FROM files") == [(WHEEL.name,)]
    assert scene.rows("SELECT 1 FROM leases") == []
    assert scene.rows("SELECT 1 FROM queue") == []
    assert len(scene.rows("SELECT 1 FROM page_jobs")) == 1


def test_repeating_any_message_is_harmless(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    assert slave.ask(Idle()) == order
    assert slave.greet(order.lease).lease == order.lease
    for _ in range(2):
        assert slave.ask(built(order)) == Send((LOG_NAME, WHEEL.name))
        assert slave.ask(Sent(order.lease)) == Send((LOG_NAME, WHEEL.name))
    scene.place(order.lease, LOG_NAME)
    assert slave.ask(Sent(order.lease)) == Send((WHEEL.name,))
    scene.place(order.lease, WHEEL.name)
    for _ in range(2):
        assert slave.ask(Sent(order.lease)) == Done()
        assert slave.ask(built(order)) == Done()
    assert scene.rows("SELECT count(*) FROM builds") == [(1,)]


def test_a_refused_wheel_makes_the_build_a_failure_with_the_reason(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    slave.ask(built(order))
    scene.place(order.lease, LOG_NAME)
    with transaction(scene.engine) as connection:
        uploads.record_refused(connection, order.build_id, WHEEL.name, "it holds a virus")
    assert slave.ask(Sent(order.lease)) == Done()
    assert scene.rows("SELECT outcome, kind, cause FROM builds") == [
        ("failure", FailureClass.BAD_WHEEL.value, "it holds a virus")
    ]
    assert scene.rows("SELECT 1 FROM files") == []


def test_success_without_a_wheel_is_none(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    assert slave.ask(built(order, wheels=())) == Send((LOG_NAME,))
    scene.place(order.lease, LOG_NAME)
    assert slave.ask(Sent(order.lease)) == Done()
    assert scene.rows("SELECT outcome FROM builds") == [("failure",)]


def test_a_dispatcher_that_restarts_asks_who_is_there_and_the_build_goes_on(scene):
    with scene.dispatcher() as address:
        slave = Slave(address)
        slave.greet()
        scene.want()
        settle(scene)
        order = slave.take()
    with scene.dispatcher():
        assert slave.ask(Busy(order.lease, Phase.BUILDING)) == Who()
        assert slave.greet(order.lease).lease == order.lease
        assert slave.ask(Busy(order.lease, Phase.BUILDING)) == Continue()
        slave.ask(built(order))
        scene.place(order.lease, LOG_NAME, WHEEL.name)
    with scene.dispatcher():
        assert slave.ask(Sent(order.lease)) == Who()
        slave.greet(order.lease)
        assert slave.ask(built(order)) == Done()
    assert scene.rows("SELECT build_id FROM builds") == [(order.build_id,)]


def test_an_idle_slave_is_answered_as_soon_as_there_is_work(scene):
    with scene.dispatcher(replace(LONG, patience=60)) as address:
        slave = Slave(address)
        slave.greet()
        settle(scene)
        slave.caller.ask(FROM_SLAVE.encode(Idle()))
        scene.want()
        assert isinstance(slave.hear(), Build)


def test_a_retry_is_claimed_when_its_time_comes(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    failure = built(
        order, outcome=Outcome.FAILURE, wheels=(), kind=FailureClass.FETCH_FAILED, cause="away"
    )
    slave.ask(failure)
    scene.place(order.lease, LOG_NAME)
    assert slave.ask(Sent(order.lease)) == Done()
    assert isinstance(slave.ask(Idle()), Sleep)
    scene.change("UPDATE queue SET not_before = now() + interval '1 second'")
    with scene.keeper():
        again = slave.take()
    assert (again.package, again.build_id) == ("tiny", order.build_id + 1)


def test_a_slave_that_restarts_without_its_build_loses_it_and_is_blamed(scene, slave):
    scene.want()
    settle(scene)
    slave.take()
    slave.hello = replace(slave.hello, run=b"2" * 16)
    assert slave.greet().lease is None
    assert scene.rows("SELECT kind FROM builds") == [(FailureClass.SLAVE_LOST.value,)]
    assert len(scene.rows("SELECT 1 FROM queue")) == 1


def test_a_lease_that_ran_out_goes_back_to_the_queue(scene, slave):
    scene.want()
    settle(scene)
    slave.take()
    scene.change("UPDATE leases SET expires = now() - interval '1 second'")
    settle(scene)
    assert scene.rows("SELECT 1 FROM leases") == []
    assert scene.rows("SELECT attempts FROM queue") == [(1,)]


def test_a_late_result_that_is_still_wanted_is_taken(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    scene.change("UPDATE leases SET expires = now() - interval '1 second'")
    settle(scene)
    finish(scene, slave, order)
    assert scene.rows("SELECT build_id, outcome FROM builds") == [(order.build_id, "success")]
    assert scene.rows("SELECT 1 FROM queue") == []


def test_a_late_result_that_another_slave_is_making_is_not_wanted(scene, slave, address):
    scene.want()
    settle(scene)
    order = slave.take()
    scene.change("UPDATE leases SET expires = now() - interval '1 second'")
    settle(scene)
    scene.change("UPDATE queue SET not_before = now()")
    settle(scene)
    other = Slave(address, "other")
    other.greet()
    assert other.take().package == "tiny"
    assert isinstance(slave.ask(Busy(order.lease, Phase.BUILDING)), Cancel)
    assert isinstance(slave.ask(built(order)), Cancel)


def test_a_slave_that_leaves_gives_its_build_back_without_blame(scene, slave):
    scene.want()
    settle(scene)
    slave.take()
    assert slave.ask(Bye()) == Done()
    assert scene.rows("SELECT attempts FROM queue") == [(0,)]
    assert scene.rows("SELECT 1 FROM builds") == []


def test_another_slaves_lease_is_not_honoured(scene, slave, address):
    scene.want()
    settle(scene)
    order = slave.take()
    thief = Slave(address, "thief")
    assert thief.greet(order.lease).lease is None
    assert isinstance(thief.ask(built(order)), Cancel)
    assert slave.ask(Busy(order.lease, Phase.BUILDING)) == Continue()


def test_many_slaves_never_get_the_same_build(scene, address):
    names = {f"tiny-{number}" for number in range(12)}
    slaves = [Slave(address, f"pi-{number}") for number in range(12)]
    for slave in slaves:
        slave.greet()
    settle(scene)
    for slave in slaves:
        slave.caller.ask(FROM_SLAVE.encode(Idle()))
    for name in names:
        scene.want(name)
    orders = [answer if isinstance(answer := s.hear(), Build) else s.take() for s in slaves]
    assert {order.package for order in orders} == names


def test_a_slave_with_a_wrong_clock_gets_no_work_and_is_told_why(address):
    slave = Slave(address)
    slave.hello = replace(slave.hello, clock=datetime.now(UTC) - timedelta(days=51))
    answer = slave.greet()
    assert isinstance(answer, Die)
    assert "clock" in answer.reason


def test_two_dispatchers_on_one_database_never_grant_the_same_build(scene, address):
    names = {f"tiny-{number}" for number in range(10)}
    with scene.dispatcher(is_another=True) as other:
        slaves = [Slave(where, f"pi-{n}-{where}") for n in range(5) for where in (address, other)]
        for slave in slaves:
            slave.greet()
        settle(scene)
        for slave in slaves:
            slave.caller.ask(FROM_SLAVE.encode(Idle()))
        for name in names:
            scene.want(name)
        orders = [answer if isinstance(answer := s.hear(), Build) else s.take() for s in slaves]
    assert {order.package for order in orders} == names
    assert {order.build_id for order in orders} == set(range(1, 11))


def test_a_build_begun_with_one_dispatcher_ends_with_another(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    with scene.dispatcher(is_another=True) as other:
        slave.caller.close()
        slave.caller = Caller(other)
        assert slave.ask(Busy(order.lease, Phase.BUILDING)) == Who()
        assert slave.greet(order.lease).lease == order.lease
        finish(scene, slave, order)
    assert scene.rows("SELECT build_id, outcome FROM builds") == [(order.build_id, "success")]


def test_of_two_processes_of_one_name_the_newer_works_and_the_older_is_sent_away(
    scene, slave, address
):
    scene.want()
    settle(scene)
    order = slave.take()
    twin = Slave(address)
    twin.hello = replace(twin.hello, run=b"2" * 16)
    assert twin.greet().lease is None
    assert isinstance(slave.ask(Busy(order.lease, Phase.BUILDING)), Cancel)
    answer = slave.ask(Idle())
    assert isinstance(answer, Die)
    assert "--label" in answer.reason
    scene.change("UPDATE queue SET ready = true, avoid = NULL")
    assert twin.take().package == "tiny"


def test_a_result_that_two_connections_report_is_committed_once(scene, slave, address):
    scene.want()
    settle(scene)
    order = slave.take()
    finish(scene, slave, order)
    again = Slave(address)
    again.greet(order.lease)
    assert again.ask(built(order)) == Done()
    assert slave.ask(Sent(order.lease)) == Done()
    assert scene.rows("SELECT count(*) FROM builds") == [(1,)]


def test_a_paused_slave_gets_work_as_soon_as_it_is_resumed(scene):
    with scene.dispatcher(replace(LONG, patience=60)) as address:
        slave = Slave(address)
        slave.greet()
        settle(scene)
        scene.change("UPDATE slaves SET wish = 'rest'")
        slave.caller.ask(FROM_SLAVE.encode(Idle()))
        scene.want()
        scene.change("UPDATE slaves SET wish = 'work'")
        assert isinstance(slave.hear(), Build)


def test_a_slave_that_waits_leaves_as_soon_as_it_is_told_to_and_may_come_back(scene):
    with scene.dispatcher(replace(LONG, patience=60)) as address:
        slave = Slave(address)
        slave.greet()
        settle(scene)
        slave.caller.ask(FROM_SLAVE.encode(Idle()))
        scene.change("UPDATE slaves SET wish = 'leave'")
        assert isinstance(slave.hear(), Die)
        scene.want()
        slave.hello = replace(slave.hello, run=b"2" * 16)
        slave.greet()
        assert isinstance(slave.take(), Build)


@pytest.mark.parametrize(
    ("health", "said"),
    [
        (Health(disk_free=1000), "disk"),
        (Health(memory_free=1000), "memory"),
        (Health(temperature=120.0), "hot"),
    ],
)
def test_a_slave_that_is_not_fit_gets_no_work_and_hears_why(scene, slave, health, said):
    scene.want()
    settle(scene)
    answer = slave.ask(Idle(health))
    assert isinstance(answer, Sleep)
    assert said in answer.reason
    assert isinstance(slave.ask(Idle()), Build)


def test_a_build_that_ends_without_any_file_is_committed_at_once(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    failed = built(
        order,
        outcome=Outcome.FAILURE,
        wheels=(),
        log=None,
        kind=FailureClass.DISK_FULL,
        cause="full",
    )
    assert slave.ask(failed) == Done()
    assert scene.rows("SELECT kind, cause FROM builds") == [("slave disk full", "full")]


def test_a_dispatcher_whose_connections_the_database_closes_goes_on(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    scene.change(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert slave.ask(Busy(order.lease, Phase.BUILDING)) == Continue()
    finish(scene, slave, order)


@pytest.mark.parametrize("frame", [b"", b"\xff", b"\xa1\x64type\x64NOPE", b"x" * 100_000])
def test_hostile_bytes_disturb_nobody(scene, slave, address, frame):
    scene.want()
    settle(scene)
    with Talker(address) as hostile:
        hostile.say(frame)
        assert isinstance(slave.take(), Build)


def test_a_message_that_breaks_its_transaction_spoils_nobody_elses(scene, slave, address):
    other = Slave(address, "other")
    other.greet()
    scene.want("tiny")
    scene.want("small")
    settle(scene)
    mine, theirs = slave.take(), other.take()
    # More seconds than a real has room for: only the database finds out.
    slave.caller.ask(FROM_SLAVE.encode(built(mine, peak_memory=2**63 - 1)))
    assert other.ask(Busy(theirs.lease, Phase.BUILDING)) == Continue()
    finish(scene, other, theirs)


def test_a_report_that_went_with_its_lease_is_asked_for_again(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    assert isinstance(slave.ask(built(order)), Send)
    scene.change("UPDATE leases SET expires = now() - interval '1 second'")
    settle(scene)
    assert slave.ask(Busy(order.lease, Phase.DELIVERING)) == Continue()
    assert slave.ask(Sent(order.lease)) == Who()


def test_a_process_that_was_followed_frees_nothing_with_its_bye(scene, slave, address):
    scene.want()
    settle(scene)
    new = Slave(address)
    new.hello = replace(new.hello, run=b"b" * 16)
    new.greet()
    order = new.take()
    slave.ask(Bye())
    assert new.ask(Busy(order.lease, Phase.BUILDING)) == Continue()


def test_a_grant_that_was_lost_with_a_dispatcher_is_repeated_and_nobody_is_blamed(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()  # let this answer be lost with the dispatcher; the next one asks WHO
    slave.greet()
    assert scene.rows("SELECT kind FROM builds") == []
    assert slave.take().lease == order.lease


def test_the_late_hello_of_a_dead_process_does_not_send_its_successor_away(scene, slave, address):
    new = Slave(address)
    new.hello = replace(new.hello, run=b"b" * 16)
    new.greet()
    slave.greet()  # said before it died, heard after its successor's
    assert not isinstance(new.ask(Idle()), Die)


def test_a_slave_that_is_paused_hears_again_of_the_build_it_was_granted(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()  # let this answer be lost
    scene.change("UPDATE slaves SET wish = 'rest'")
    assert slave.ask(Idle()) == order


def test_a_slave_that_repeats_its_result_keeps_its_lease(scene, slave):
    scene.want()
    settle(scene)
    order = slave.take()
    slave.ask(built(order))
    scene.change("UPDATE leases SET expires = now() + interval '1 second'")
    slave.ask(built(order))
    assert scene.rows("SELECT expires > now() + interval '100 seconds' FROM leases") == [(True,)]


def test_a_slave_that_leaves_just_as_there_is_work_leaves_nothing_behind(scene):
    dispatcher = Dispatcher(scene.engine, "tcp://127.0.0.1:*", Settings())
    peer = (b"pi", b"", b"")
    dispatcher.take([(peer, Hello(PROTOCOL, "pi", TARGET, Resources(), datetime.now(UTC)))])
    settle(scene)
    dispatcher.take([(peer, Idle())])
    scene.want()
    dispatcher.take([(peer, Bye()), (peer, dispatcher.parked[b"pi"])])
    dispatcher.listener.close()
    assert scene.rows("SELECT 1 FROM leases") == []
    assert len(scene.rows("SELECT 1 FROM queue")) == 1
