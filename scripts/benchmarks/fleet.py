"""Slaves by the thousand, simulated by one thread: real sockets, real messages, no builds.

Each has a connection of its own and keeps to the protocol: one request, then its reply. So
that they take little of the processor that they share with the dispatcher, requests are
encoded once and only the lease is written into them; of a reply, its type and its lease are
read where they always stand.
"""

import heapq
import select
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from itertools import count
from secrets import token_bytes
from typing import Self

import zmq

from piwheels.model.builds import FailureClass, Outcome, Phase
from piwheels.protocol.slave import (
    FROM_SLAVE,
    LOG_NAME,
    PROTOCOL,
    Built,
    Busy,
    DeliveredFile,
    Health,
    Hello,
    Idle,
    OfferedTarget,
    Resources,
    Sent,
)
from scripts.benchmarks.result import BenchmarkFailed

# What stands for a lease, and for its digits in names of files, in what is encoded once.
TOKEN = b"sixteen bytes..."
DIGITS = "0" * 32
LEASE = b"\x65lease\x50"  # in CBOR: the text lease, then 16 bytes
GREETING_SECONDS = 120.0
PAUSE = 0.05  # seconds before a slave that was sent to sleep asks again

HEALTH = Health(memory_free=3 << 30, disk_free=50 << 30, load=1.0, temperature=55.0)
LOG_TAIL = "gcc -pthread -Wno-unused-result -fPIC -c module.c -o build/module.o\n" * 8


class Kind(Enum):
    """What a simulated build comes to."""

    FAILURE = "without files"
    SUCCESS = "with log and wheel"


class Part(Enum):
    """What a simulated slave does."""

    REST = "is connected and says nothing"
    PARK = "asks for work where there is none"
    BEAT = "holds a lease and sends heartbeats"
    CYCLE = "asks, builds in no time, delivers, asks again"


@dataclass(slots=True, eq=False)
class Slave:
    """One connection. said: the type of its last request, which was due at *at*."""

    number: int
    socket: "zmq.Socket[bytes]"
    hello: bytes
    part: Part = Part.REST
    said: str = ""
    at: float = 0.0
    lease: bytes = b""
    began: float = 0.0
    every: float = 0.0


@dataclass(slots=True)
class Heard:
    """What was measured, in seconds: from request to reply, by the request's type; whole cycles.

    odd: replies that cost a cycle its turn, by type.
    """

    replies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cycles: list[float] = field(default_factory=list)
    odd: Counter[str] = field(default_factory=Counter)


class Fleet:
    """Slaves at the dispatcher's *address*, one of each of *targets*, which may repeat.

    deliver: is told of each lease whose files the receiver should have; see `arrived`.
    """

    def __init__(
        self,
        address: str,
        targets: Sequence[OfferedTarget],
        deliver: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, len(targets) + 10)
        self.poll = select.epoll()
        self.heard = Heard()
        self.kind = Kind.FAILURE
        self.frames = {kind: Frames(kind) for kind in Kind}
        self.idle = FROM_SLAVE.encode(Idle(HEALTH))
        self.deliver = deliver
        self.delivering: dict[bytes, Slave] = {}
        self.timers: list[tuple[float, int, Callable[[Slave, float], None], Slave]] = []
        self.turns = count()
        self.watched: dict[int, Callable[[], None]] = {}
        self.by_descriptor: dict[int, Slave] = {}
        self.slaves = [
            self._connect(address, number, target) for number, target in enumerate(targets)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.poll.close()
        self.context.destroy(linger=0)

    def watch(self, descriptor: int, then: Callable[[], None]) -> None:
        """Call *then* whenever *descriptor* can be read."""
        self.watched[descriptor] = then
        self.poll.register(descriptor, select.EPOLLIN)

    def greet(self) -> None:
        """Say HELLO, all of them. Raise BenchmarkFailed if one is not welcome."""
        for slave in self.slaves:
            self._say(slave, "HELLO", slave.hello, time.monotonic())
        deadline = time.monotonic() + GREETING_SECONDS
        while any(slave.said for slave in self.slaves):
            if time.monotonic() > deadline:
                raise BenchmarkFailed("the dispatcher does not answer every HELLO")
            self.run(0.05)
        if self.heard.odd:
            raise BenchmarkFailed(f"not all slaves are welcome: {dict(self.heard.odd)}")

    def assign(self, part: Part, slaves: Sequence[Slave], every: float = 0.0) -> None:
        """Let *slaves*, which are at rest, do that. every: seconds between two heartbeats."""
        now = time.monotonic()
        for slave in slaves:
            slave.part, slave.every = part, every
            self._ask(slave, now)

    def arrived(self, leases: Sequence[bytes]) -> None:
        """The files of these leases are where they should be."""
        now = time.monotonic()
        for lease in leases:
            if slave := self.delivering.pop(lease, None):
                self._say(slave, "SENT", self.frames[self.kind].about(lease, "SENT"), now)

    def run(self, seconds: float) -> None:
        """Take part for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            while self.timers and self.timers[0][0] <= now:
                due, _, act, slave = heapq.heappop(self.timers)
                act(slave, due)
            until = min(end, self.timers[0][0]) if self.timers else end
            for descriptor, _ in self.poll.poll(max(0.0, until - time.monotonic())):
                if slave_there := self.by_descriptor.get(descriptor):
                    self._listen(slave_there)
                else:
                    self.watched[descriptor]()

    # Sockets

    def _connect(self, address: str, number: int, target: OfferedTarget) -> Slave:
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        hello = Hello(
            PROTOCOL,
            f"simulated-{number}",
            target,
            Resources(cores=4, memory=4 << 30, disk=64 << 30, sandbox="L2"),
            datetime.now(UTC),
            run=token_bytes(16),
        )
        slave = Slave(number, socket, FROM_SLAVE.encode(hello))
        descriptor = int(socket.getsockopt(zmq.FD))
        self.by_descriptor[descriptor] = slave
        self.poll.register(descriptor, select.EPOLLIN)
        return slave

    def _say(self, slave: Slave, kind: str, frame: bytes, due: float) -> None:
        slave.said, slave.at = kind, due
        slave.socket.send_multipart((b"1234", b"", frame))  # as a REQ socket that correlates
        self._listen(slave)  # sending may have taken the edge that the descriptor would show

    def _listen(self, slave: Slave) -> None:
        while int(slave.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            *_, frame = slave.socket.recv_multipart()
            self._hear(slave, frame)

    def _after(self, slave: Slave, due: float, act: Callable[[Slave, float], None]) -> None:
        heapq.heappush(self.timers, (due, next(self.turns), act, slave))

    # The conversation

    def _hear(self, slave: Slave, frame: bytes) -> None:
        now = time.monotonic()
        kind = type_of(frame)
        if slave.part is not Part.PARK:  # it is meant to wait
            self.heard.replies[slave.said].append(now - slave.at)
        slave.said = ""
        match kind:
            case b"ACK":
                pass
            case b"BUILD":
                slave.lease = lease_of(frame)
                self._after_build(slave, now)
            case b"CONTINUE":
                self._after_continue(slave, now)
            case b"SEND":
                self.delivering[slave.lease] = slave
                self.deliver(slave.lease)
            case b"DONE":
                self._after_done(slave, now)
            case b"SLEEP" if slave.part is Part.PARK:
                self._ask(slave, now)
            case b"SLEEP":
                self.heard.odd["SLEEP"] += 1
                slave.lease = b""
                self._after(slave, now + PAUSE, self._ask)
            case _:
                self.heard.odd[kind.decode()] += 1
                slave.lease, slave.part = b"", Part.REST

    def _ask(self, slave: Slave, now: float) -> None:
        if slave.part is not Part.REST:
            slave.began = now
            self._say(slave, "IDLE", self.idle, now)

    def _after_build(self, slave: Slave, now: float) -> None:
        if slave.part is Part.BEAT:  # spread evenly, from the first one on
            place = (slave.number * 0.618_033_988_749_895) % 1
            self._after(slave, now + slave.every * place, self._beat)
        else:
            self._beat(slave, now)

    def _beat(self, slave: Slave, due: float) -> None:
        self._say(slave, "BUSY", self.frames[self.kind].about(slave.lease, "BUSY"), due)

    def _after_continue(self, slave: Slave, now: float) -> None:
        if slave.part is Part.BEAT:
            self._after(slave, max(now, slave.at + slave.every), self._beat)
        else:
            self._say(slave, "BUILT", self.frames[self.kind].about(slave.lease, "BUILT"), now)

    def _after_done(self, slave: Slave, now: float) -> None:
        slave.lease = b""
        self.heard.cycles.append(now - slave.began)
        self._ask(slave, now)


def type_of(frame: bytes) -> bytes:
    """The type of an encoded message: the codec puts it first, and it is short."""
    return frame[7 : 7 + (frame[6] & 0x1F)]


def lease_of(frame: bytes) -> bytes:
    """The lease in an encoded message that has one."""
    start = frame.index(LEASE) + len(LEASE)
    return frame[start : start + 16]


class Frames:
    """What slaves whose builds are of *kind* say of their leases, encoded once."""

    def __init__(self, kind: Kind) -> None:
        busy = Busy(TOKEN, Phase.BUILDING, HEALTH, LOG_TAIL)
        messages = {"BUSY": busy, "BUILT": _built(kind), "SENT": Sent(TOKEN)}
        self.encoded = {name: FROM_SLAVE.encode(each) for name, each in messages.items()}

    def about(self, lease: bytes, name: str) -> bytes:
        """The message of that type, about this lease."""
        frame = self.encoded[name].replace(TOKEN, lease)
        return frame.replace(DIGITS.encode(), lease.hex().encode())


def _built(kind: Kind) -> Built:
    took = {
        "seconds": 24.2,
        "phases": {"fetching": 0.4, "preparing": 2.3, "building": 21.4, "inspecting": 0.1},
        "peak_memory": 210 << 20,
        "cpu_seconds": 28.0,
        "sandbox": "L2",
        "environment": {"setuptools": "80.9.0", "wheel": "0.45.1", "packaging": "25.0"},
    }
    if kind is Kind.FAILURE:
        cause = "error: command '/usr/bin/gcc' failed with exit code 1"
        failure = FailureClass.SOURCE_ERROR
        return Built(TOKEN, Outcome.FAILURE, kind=failure, cause=cause, **took)  # type: ignore[arg-type]
    log = DeliveredFile(LOG_NAME, 20_000, "1" * 64)
    wheel = DeliveredFile(f"w_{DIGITS}-1.0-cp311-cp311-linux_armv7l.whl", 40_000, "2" * 64)
    return Built(TOKEN, Outcome.SUCCESS, log=log, wheels=(wheel,), **took)  # type: ignore[arg-type]
