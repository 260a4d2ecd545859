"""The dispatcher's side of the conversation with one slave.

``step`` takes what the slave said, or what the database answered, and returns the next
session and what to do. Truth lies in the database, by lease token: a session only remembers
who is speaking, so a dispatcher that restarts needs nothing but HELLO. Every request to the
database is answered by one answer; every message is answered by one reply, in the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from piwheels.model.errors import IllegalMessage
from piwheels.protocol.slave import (
    PROTOCOL,
    Ack,
    Build,
    Built,
    Busy,
    Bye,
    Cancel,
    Continue,
    Die,
    Done,
    Hello,
    Idle,
    Send,
    Sent,
    Sleep,
    Who,
)

FARTHEST_CLOCK = 300.0  # seconds a slave's clock may be off; wheels carry its times


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds. heartbeat, silence: what slaves are told.

    lease: without a sign of life. patience: for how long an IDLE may go without an answer.
    """

    heartbeat: float = 15.0
    silence: float = 20.0
    lease: float = 120.0
    patience: float = 10.0


@dataclass(frozen=True, slots=True)
class Speaker:
    """A slave by number, and the process that speaks as it: see protocol.slave.Hello."""

    slave: int
    run: bytes


# Sessions: what the dispatcher remembers of a slave that is connected.


@dataclass(frozen=True, slots=True)
class Stranger:
    """It has not said HELLO to this dispatcher."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """Its HELLO is being entered."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Ready:
    """It is known, and holds no lease as far as was heard."""

    speaker: Speaker


@dataclass(frozen=True, slots=True)
class Asking:
    """It is IDLE; work is being looked for. May last until there is some."""

    speaker: Speaker


@dataclass(frozen=True, slots=True)
class Working:
    """It holds a lease and builds, or delivers what it built."""

    speaker: Speaker
    lease: bytes


Session = Stranger | Greeting | Ready | Asking | Working


# Requests to the database, and its answers.


@dataclass(frozen=True, slots=True)
class Register:
    """Enter the slave; free every lease it holds but the one it names."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Registered:
    """lease: the one named, if it still stands. refusal: why it cannot work here, or ''."""

    speaker: Speaker
    lease: bytes | None = None
    refusal: str = ""
    index_urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """Grant the slave the lease it holds already, or else a new one."""

    speaker: Speaker
    idle: Idle


@dataclass(frozen=True, slots=True)
class Nothing:
    """No build for this slave, for *reason*."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The slave must leave, for *reason*."""

    reason: str


@dataclass(frozen=True, slots=True)
class Extend:
    """Extend the lease, and enter what its slave says of it."""

    speaker: Speaker
    busy: Busy


@dataclass(frozen=True, slots=True)
class Extended:
    """The lease stands."""


@dataclass(frozen=True, slots=True)
class Void:
    """The lease does not stand, for *reason*; what was built under it is not wanted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Conclude:
    """Enter the result, if one is given, and commit the build if all its files are here."""

    speaker: Speaker
    lease: bytes
    built: Built | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """These files must come first."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unreported:
    """The lease stands, but not what its slave said of the build's end: the lease was given
    up, and the report with it, before the slave was heard again.
    """


@dataclass(frozen=True, slots=True)
class Committed:
    """The build is on record, now or from before."""


@dataclass(frozen=True, slots=True)
class Release:
    """Free the slave's leases; it is gone."""

    speaker: Speaker


@dataclass(frozen=True, slots=True)
class Reply:
    """Say *message* to the slave."""

    message: object


Action = Register | Claim | Extend | Conclude | Release | Reply
Handler = Callable[[Any, Any, Timing], tuple[Session, list[Action]]]


def _reintroduce(session: Session, _: object, __: Timing) -> tuple[Session, list[Action]]:
    return session, [Reply(Who())]


def _greet(_: Session, hello: Hello, __: Timing) -> tuple[Session, list[Action]]:
    if hello.protocol != PROTOCOL:
        reason = (
            f"this farm speaks protocol {PROTOCOL}, not {hello.protocol}: "
            "install the same version of piwheels here as on the master"
        )
        return Stranger(), [Reply(Die(reason))]
    return Greeting(hello), [Register(hello)]


def _welcome(_: Greeting, found: Registered, timing: Timing) -> tuple[Session, list[Action]]:
    if found.refusal:
        return Stranger(), [Reply(Die(found.refusal))]
    speaker = found.speaker
    session = Working(speaker, found.lease) if found.lease else Ready(speaker)
    ack = Ack(speaker.slave, timing.heartbeat, timing.silence, found.lease, found.index_urls)
    return session, [Reply(ack)]


def _look_for_work(
    session: Ready | Asking | Working, idle: Idle, _: Timing
) -> tuple[Session, list[Action]]:
    return Asking(session.speaker), [Claim(session.speaker, idle)]


def _grant(session: Asking, build: Build, _: Timing) -> tuple[Session, list[Action]]:
    return Working(session.speaker, build.lease), [Reply(build)]


def _turn_away(session: Asking, found: Nothing, _: Timing) -> tuple[Session, list[Action]]:
    return Ready(session.speaker), [Reply(Sleep(0.0, found.reason))]


def _send_away(_: Asking, found: Dismissed, __: Timing) -> tuple[Session, list[Action]]:
    return Stranger(), [Reply(Die(found.reason))]


def _extend(
    session: Ready | Asking | Working, busy: Busy, _: Timing
) -> tuple[Session, list[Action]]:
    return Working(session.speaker, busy.lease), [Extend(session.speaker, busy)]


def _carry_on(session: Working, _: Extended, __: Timing) -> tuple[Session, list[Action]]:
    return session, [Reply(Continue())]


def _cancel(session: Working, void: Void, _: Timing) -> tuple[Session, list[Action]]:
    return Ready(session.speaker), [Reply(Cancel(void.reason))]


def _conclude(
    session: Ready | Asking | Working, message: Built | Sent, _: Timing
) -> tuple[Session, list[Action]]:
    built = message if isinstance(message, Built) else None
    conclude = Conclude(session.speaker, message.lease, built)
    return Working(session.speaker, message.lease), [conclude]


def _ask_for_files(session: Working, missing: Missing, _: Timing) -> tuple[Session, list[Action]]:
    return session, [Reply(Send(missing.names))]


def _ask_for_report(session: Working, _: Unreported, __: Timing) -> tuple[Session, list[Action]]:
    """After HELLO a slave tells again of what it has."""
    return session, [Reply(Who())]


def _finish(session: Working, _: Committed, __: Timing) -> tuple[Session, list[Action]]:
    return Ready(session.speaker), [Reply(Done())]


def _part(session: Ready | Asking | Working, _: Bye, __: Timing) -> tuple[Session, list[Action]]:
    return Stranger(), [Release(session.speaker), Reply(Done())]


def _shrug(session: Session, _: object, __: Timing) -> tuple[Session, list[Action]]:
    return session, []


def _known(message: type, handler: Handler) -> dict[tuple[type, type], Handler]:
    return {(session, message): handler for session in (Ready, Asking, Working)}


TRANSITIONS: dict[tuple[type, type], Handler] = {
    # A slave that is not known yet, or any more. What it says is lost, and asked again.
    (Stranger, Hello): _greet,
    (Stranger, Idle): _reintroduce,
    (Stranger, Busy): _reintroduce,
    (Stranger, Built): _reintroduce,
    (Stranger, Sent): _reintroduce,
    (Stranger, Bye): _shrug,
    (Greeting, Hello): _greet,
    (Greeting, Registered): _welcome,
    # A slave that is known. What it says counts, not what it said before: it may have
    # missed our answer, or lived through a restart of ours.
    **_known(Hello, _greet),
    **_known(Idle, _look_for_work),
    **_known(Busy, _extend),
    **_known(Built, _conclude),
    **_known(Sent, _conclude),
    **_known(Bye, _part),
    (Asking, Build): _grant,
    (Asking, Nothing): _turn_away,
    (Asking, Dismissed): _send_away,
    (Working, Extended): _carry_on,
    (Working, Void): _cancel,
    (Working, Missing): _ask_for_files,
    (Working, Unreported): _ask_for_report,
    (Working, Committed): _finish,
}


def step(session: Session, event: object, timing: Timing) -> tuple[Session, list[Action]]:
    """Return the session after *event*, and what to do. Raise IllegalMessage if none fits."""
    handler = TRANSITIONS.get((type(session), type(event)))
    if handler is None:
        raise IllegalMessage(f"{type(event).__name__} while {type(session).__name__}")
    return handler(session, event, timing)


def is_clock_sane(hello: Hello, now: float) -> bool:
    """Whether the slave's clock is near ours; *now*: seconds since the epoch."""
    return abs(hello.clock.timestamp() - now) <= FARTHEST_CLOCK
