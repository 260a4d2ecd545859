"""The tables of conversations have exactly the steps that can be taken."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from piwheels.model.builds import Outcome, Phase
from piwheels.model.errors import IllegalMessage
from piwheels.protocol import files, slave
from piwheels.rules import slave_session, transfer
from piwheels.slave import session
from tests.docs.generator.machines import in_words, ways

LEASE, OTHER = b"l" * 16, b"o" * 16
MOMENTS = (0.0, 3_600.0)  # at once, and after every patience

LOG = slave.DeliveredFile(slave.LOG_NAME, 1, "0" * 64)
BUILT = slave.Built(LEASE, Outcome.FAILURE, 1.0, LOG)
BUILD = slave.Build(
    LEASE,
    1,
    "six",
    "1.0",
    slave.OrderedSdist("six-1.0.tar.gz", "http://localhost/six-1.0.tar.gz", "0" * 64, 1),
    slave.OrderedLimits(1.0, 1.0, 0, 0, 0, 0),
)
HELLO = slave.Hello(
    slave.PROTOCOL,
    "pi",
    slave.OfferedTarget("cp311-linux", "CPython", "3.11", ("py3-none-any",)),
    slave.Resources(),
    datetime(2026, 1, 1, tzinfo=UTC),
)
SPEAKER = slave_session.Speaker(1, HELLO.run)

OF_SLAVE = (
    *(slave.Ack(1, 1.0, 1.0), slave.Ack(1, 1.0, 1.0, LEASE), slave.Ack(1, 1.0, 1.0, OTHER)),
    *(BUILD, slave.Sleep(1.0, ""), slave.Continue(), slave.Cancel(""), slave.Done()),
    *(slave.Send((slave.LOG_NAME,)), slave.Who(), slave.Die("")),
    *(session.Tick(), session.Proceeded(), session.Delivered(), session.Quit()),
    *(session.Finished(None), session.Finished(BUILT)),
)
OF_DISPATCHER = (
    *(HELLO, replace(HELLO, protocol=0), slave.Idle(), slave.Busy(LEASE, Phase.BUILDING)),
    *(BUILT, slave.Sent(LEASE), slave.Bye(), BUILD),
    *(slave_session.Registered(SPEAKER), slave_session.Registered(SPEAKER, LEASE)),
    slave_session.Registered(SPEAKER, refusal="go"),
    *(slave_session.Nothing(""), slave_session.Dismissed("")),
    *(slave_session.Extended(), slave_session.Void(""), slave_session.Unreported()),
    *(slave_session.Missing((slave.LOG_NAME,)), slave_session.Committed()),
)

SIZE = files.CHUNK * 2
PUT = files.Put(LEASE, "a.whl", SIZE, "0" * 64)
STORED, REFUSED = files.Stored(LEASE, "a.whl"), files.Refused(LEASE, "a.whl", "")
OF_SENDER = (files.Fetch(LEASE, "a.whl", 0, 1), STORED, REFUSED, transfer.Silence())
OF_RECEIVER = (
    *(PUT, replace(PUT, sha256="1" * 64), transfer.Silence()),
    *(transfer.Wanted(PUT, 0), transfer.Wanted(PUT, SIZE), transfer.Wanted(PUT, SIZE + 1)),
    transfer.Wanted(replace(PUT, size=0), 1),
    *(transfer.Unfit(PUT, ""), transfer.Settled(STORED), transfer.Settled(REFUSED)),
    *(files.Chunk(LEASE, "a.whl", offset, b"x" * files.CHUNK) for offset in (0, files.CHUNK)),
    *(transfer.Corrupt(), transfer.Faltered()),
)

Step = Callable[[object, object], Iterable[tuple[object, list[object]]]]


def at_any_moment(state, event):
    return [session.step(state, event, now) for now in MOMENTS]


CASES = {
    "slave": (
        [session.begin(0.0)[0], session.begin(0.0, LEASE, BUILT)[0], session.Gone()],
        OF_SLAVE,
        at_any_moment,
    ),
    "dispatcher": (
        [slave_session.Stranger()],
        OF_DISPATCHER,
        lambda state, event: [slave_session.step(state, event, slave_session.Timing())],
    ),
    "sender": (
        [transfer.offer(PUT)[0]],
        OF_SENDER,
        lambda state, event: [transfer.send_step(state, event)],
    ),
    "receiver": (
        # The second has nothing left to ask for: no history leads there, the table allows it.
        [transfer.Unknown(), transfer.Receiving(PUT, SIZE, SIZE)],
        OF_RECEIVER,
        lambda state, event: [transfer.receive_step(state, event)],
    ),
}


def steps_taken(
    begins: Iterable[object], events: Iterable[object], step: Step
) -> set[tuple[str, str, str]]:
    """Every (state, event, next state) that can be reached from *begins*."""
    taken, open_, seen = set(), list(begins), set()
    while open_:
        state = open_.pop()
        if repr(state) in seen:
            continue
        seen.add(repr(state))
        for event in events:
            try:
                outcomes = list(step(state, event))
            except IllegalMessage:
                continue
            for following, _ in outcomes:
                taken.add((type(state).__name__, in_words(type(event)), type(following).__name__))
                open_.append(following)
    return taken


@pytest.mark.parametrize("machine", CASES)
def test_a_table_has_exactly_the_steps_that_can_be_taken(machine):
    told = {(way.state, way.event, after) for way in ways(machine) for after in way.following}
    assert steps_taken(*CASES[machine]) == told
