"""The slave's side of the conversation with its master.

``step`` takes what the master said, or what happened here, and returns the next session and
what to do. The daemon performs it. The slave speaks first, always; what is not answered is
said again, and a build or its result is kept until the master says DONE or CANCEL.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from piwheels.model.errors import IllegalMessage
from piwheels.protocol.slave import (
    Ack,
    Build,
    Built,
    Bye,
    Cancel,
    Continue,
    Die,
    Done,
    Send,
    Sent,
    Sleep,
    Who,
)

FIRST_SILENCE = 5.0  # seconds between two HELLOs, until the master says better
MOST_DELIVERIES = 5  # of the same files in a row, before this process gives up


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two BUSY, and without an answer before asking again."""

    heartbeat: float = 15.0
    silence: float = FIRST_SILENCE


# Sessions. said: when the newest message was sent (monotonic seconds).


@dataclass(frozen=True, slots=True)
class Greeting:
    """Said HELLO. lease: of what is still here; built: its result, if there is one.

    delivering: what is on its way to the receiver meanwhile, if anything is.
    """

    pace: Pace
    said: float
    lease: bytes | None = None
    built: Built | None = None
    delivering: "Delivering | None" = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Said IDLE; the master may take its time."""

    pace: Pace
    said: float


@dataclass(frozen=True, slots=True)
class Resting:
    """Was told to ask again later; until: monotonic seconds."""

    pace: Pace
    until: float


@dataclass(frozen=True, slots=True)
class Building:
    """A build is running here."""

    pace: Pace
    said: float
    lease: bytes


@dataclass(frozen=True, slots=True)
class Reporting:
    """Said BUILT."""

    pace: Pace
    said: float
    built: Built


@dataclass(frozen=True, slots=True)
class Delivering:
    """The files are on their way. deliveries: of just these *names* in a row."""

    pace: Pace
    said: float
    built: Built
    names: tuple[str, ...] = ()
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class Confirming:
    """Said SENT, after what the other fields say was delivered: see Delivering."""

    pace: Pace
    said: float
    built: Built
    names: tuple[str, ...] = ()
    deliveries: int = 1


@dataclass(frozen=True, slots=True)
class Stopping:
    """A build or delivery was told to end and has not yet. is_last: then leave."""

    pace: Pace
    lease: bytes
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """The conversation is over."""


Session = (
    Greeting | Waiting | Resting | Building | Reporting | Delivering | Confirming | Stopping | Gone
)

# What happens here.


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


@dataclass(frozen=True, slots=True)
class Proceeded:
    """The build or the delivery came to its next phase."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The build ended; None: it was told to, and there is no result."""

    built: Built | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has answered for every file, or the delivery was told to end."""


@dataclass(frozen=True, slots=True)
class Quit:
    """The operator wants this slave to end, now."""


# What to do.


@dataclass(frozen=True, slots=True)
class SayHello:
    """Introduce yourself, naming *lease*."""

    lease: bytes | None


@dataclass(frozen=True, slots=True)
class SayIdle:
    """Ask for work, saying how the machine is."""


@dataclass(frozen=True, slots=True)
class SayBusy:
    """Give a sign of life for *lease*."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Say:
    """Send *message*."""

    message: object


@dataclass(frozen=True, slots=True)
class Start:
    """Begin this build."""

    build: Build


@dataclass(frozen=True, slots=True)
class Deliver:
    """Begin to give these files to the receiver."""

    built: Built
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Abort:
    """End the build or the delivery that is running."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop all that is kept of *lease*."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """End the daemon; *reason* is for people, '' when they asked for it.

    is_final: whether starting it again as it is would end the same way.
    """

    reason: str
    is_final: bool = False


Action = SayHello | SayIdle | SayBusy | Say | Start | Deliver | Abort | Forget | Leave
Step = tuple[Session, list[Action]]
Handler = Callable[[Any, Any, float], Step]


def begin(now: float, lease: bytes | None = None, built: Built | None = None) -> Step:
    """Say HELLO, naming the *lease* whose result *built* was kept from an earlier run."""
    return Greeting(Pace(), now, lease, built), [SayHello(lease)]


def step(session: Session, event: object, now: float) -> Step:
    """Return the session after *event*, and what to do. Raise IllegalMessage if none fits."""
    handler = TRANSITIONS.get((type(session), type(event)))
    if handler is None:
        raise IllegalMessage(f"{type(event).__name__} while {type(session).__name__}")
    return handler(session, event, now)


def _ask_for_work(pace: Pace, now: float) -> Step:
    return Waiting(pace, now), [SayIdle()]


# Being introduced.


def _welcomed(session: Greeting, ack: Ack, now: float) -> Step:
    pace = Pace(ack.heartbeat, ack.silence)
    if session.lease is None:
        return _ask_for_work(pace, now)
    if ack.lease != session.lease:
        return _not_wanted(session, pace, now)
    if (under_way := session.delivering) is not None:
        return Delivering(pace, now, under_way.built, under_way.names, under_way.deliveries), []
    if session.built is None:
        return Building(pace, now, session.lease), []
    return Reporting(pace, now, session.built), [Say(session.built)]


def _not_wanted(session: Greeting, pace: Pace, now: float) -> Step:
    assert session.lease is not None
    if session.built is None or session.delivering is not None:
        return Stopping(pace, session.lease), [Abort()]
    return _forget(session, session.lease, pace, now)


def _reintroduce(session: Session, _: Who, now: float) -> Step:
    """What is under way goes on: an aborted delivery could still end after the next began."""
    lease, built = _held(session)
    delivering = session if isinstance(session, Delivering) else None
    return Greeting(_pace(session), now, lease, built, delivering), [SayHello(lease)]


def _finished_while_greeting(session: Greeting, finished: Finished, _: float) -> Step:
    if finished.built is None:
        return _lost(session.lease)
    return replace(session, built=finished.built), []


def _delivered_while_greeting(session: Greeting, _: Delivered, __: float) -> Step:
    return replace(session, delivering=None), []


def _greet_again(session: Greeting, _: Tick, now: float) -> Step:
    if now - session.said < session.pace.silence:
        return session, []
    return replace(session, said=now), [SayHello(session.lease)]


# Being idle.


def _ask_again(session: Waiting, _: Tick, now: float) -> Step:
    if now - session.said < session.pace.silence:
        return session, []
    return _ask_for_work(session.pace, now)


def _rest(session: Waiting, sleep: Sleep, now: float) -> Step:
    return Resting(session.pace, now + sleep.seconds), []


def _wake(session: Resting, _: Tick, now: float) -> Step:
    return (session, []) if now < session.until else _ask_for_work(session.pace, now)


def _start(session: Waiting, build: Build, now: float) -> Step:
    return Building(session.pace, now, build.lease), [Start(build)]


# Having a lease.


def _beat(session: Building | Delivering, _: Tick, now: float) -> Step:
    if now - session.said < session.pace.heartbeat:
        return session, []
    return _give_sign(session, _, now)


def _give_sign(session: Building | Delivering, _: object, now: float) -> Step:
    lease, _built = _held(session)
    assert lease is not None
    return replace(session, said=now), [SayBusy(lease)]


def _report(session: Building, finished: Finished, now: float) -> Step:
    if finished.built is None:
        return _lost(session.lease)
    return Reporting(session.pace, now, finished.built), [Say(finished.built)]


def _lost(lease: bytes | None) -> Step:
    """Nobody told the build to end, so this is a fault of ours: begin afresh."""
    forget: list[Action] = [] if lease is None else [Forget(lease)]
    return Gone(), [*forget, Say(Bye()), Leave("the builder failed; see this slave's log")]


def _say_again(session: Reporting | Confirming, _: Tick, now: float) -> Step:
    if now - session.said < session.pace.silence:
        return session, []
    message = session.built if isinstance(session, Reporting) else Sent(session.built.lease)
    return replace(session, said=now), [Say(message)]


def _deliver(session: Reporting, send: Send, now: float) -> Step:
    delivering = Delivering(session.pace, now, session.built, send.names)
    return delivering, [Deliver(session.built, send.names)]


def _deliver_again(session: Confirming, send: Send, now: float) -> Step:
    deliveries = session.deliveries + 1 if session.names == send.names else 1
    if deliveries > MOST_DELIVERIES:  # the next run drops the result if it cannot be read
        return Gone(), [Leave("a result cannot be delivered; see this slave's log")]
    delivering = Delivering(session.pace, now, session.built, send.names, deliveries)
    return delivering, [Deliver(session.built, send.names)]


def _confirm(session: Delivering, _: Delivered, now: float) -> Step:
    confirming = Confirming(session.pace, now, session.built, session.names, session.deliveries)
    return confirming, [Say(Sent(session.built.lease))]


def _done(session: Reporting | Confirming, _: Done | Cancel, now: float) -> Step:
    return _forget(session, session.built.lease, session.pace, now)


def _forget(_: Session, lease: bytes, pace: Pace, now: float) -> Step:
    return Waiting(pace, now), [Forget(lease), SayIdle()]


# Ending a build, or everything.


def _abort(session: Building | Delivering, _: Cancel, __: float) -> Step:
    lease, _built = _held(session)
    assert lease is not None
    return Stopping(session.pace, lease), [Abort()]


def _stopped(session: Stopping, event: Finished | Delivered, now: float) -> Step:
    if session.is_last and isinstance(event, Finished) and event.built is not None:
        return Gone(), [Leave("")]  # it was quicker than our order: the next run delivers it
    if session.is_last:
        return Gone(), [Forget(session.lease), Say(Bye()), Leave("")]
    return _forget(session, session.lease, session.pace, now)


def _quit_idle(_: Session, __: Quit, ___: float) -> Step:
    return Gone(), [Say(Bye()), Leave("")]


def _quit_building(session: Building, _: Quit, __: float) -> Step:
    return Stopping(session.pace, session.lease, is_last=True), [Abort()]


def _quit_stopping(session: Stopping, _: Quit, __: float) -> Step:
    return replace(session, is_last=True), []


def _quit_with_result(session: Session, _: Quit, __: float) -> Step:
    """The result stays on disk; the next run of this slave delivers it."""
    return Gone(), [Abort(), Leave("")]


def _quit_greeting(session: Greeting, _: Quit, __: float) -> Step:
    if session.lease is not None and session.built is None:
        return Stopping(session.pace, session.lease, is_last=True), [Abort()]
    return _quit_with_result(session, _, __)


def _dismissed(_: Session, die: Die, __: float) -> Step:
    return Gone(), [Abort(), Leave(die.reason, is_final=True)]


def _stay(session: Session, _: object, __: float) -> Step:
    return session, []


def _held(session: Session) -> tuple[bytes | None, Built | None]:
    """The lease that *session* is about, and its result."""
    match session:
        case Reporting() | Delivering() | Confirming():
            return session.built.lease, session.built
        case Building():
            return session.lease, None
        case _:
            return None, None


def _pace(session: Session) -> Pace:
    return Pace() if isinstance(session, Gone) else session.pace


TRANSITIONS: dict[tuple[type, type], Handler] = {
    (Greeting, Ack): _welcomed,
    (Greeting, Tick): _greet_again,
    (Greeting, Finished): _finished_while_greeting,
    (Greeting, Delivered): _delivered_while_greeting,
    (Greeting, Quit): _quit_greeting,
    (Waiting, Build): _start,
    (Waiting, Sleep): _rest,
    (Waiting, Tick): _ask_again,
    (Waiting, Quit): _quit_idle,
    (Waiting, Who): _reintroduce,
    (Resting, Tick): _wake,
    (Resting, Quit): _quit_idle,
    (Building, Continue): _stay,
    (Building, Cancel): _abort,
    (Building, Tick): _beat,
    (Building, Proceeded): _give_sign,
    (Building, Finished): _report,
    (Building, Quit): _quit_building,
    (Building, Who): _reintroduce,
    (Reporting, Send): _deliver,
    (Reporting, Done): _done,
    (Reporting, Cancel): _done,
    (Reporting, Tick): _say_again,
    (Reporting, Quit): _quit_with_result,
    (Reporting, Who): _reintroduce,
    (Delivering, Continue): _stay,
    (Delivering, Cancel): _abort,
    (Delivering, Tick): _beat,
    (Delivering, Proceeded): _give_sign,
    (Delivering, Delivered): _confirm,
    (Delivering, Quit): _quit_with_result,
    (Delivering, Who): _reintroduce,
    (Confirming, Send): _deliver_again,
    (Confirming, Done): _done,
    (Confirming, Cancel): _done,
    (Confirming, Tick): _say_again,
    (Confirming, Quit): _quit_with_result,
    (Confirming, Who): _reintroduce,
    (Stopping, Finished): _stopped,
    (Stopping, Delivered): _stopped,
    (Stopping, Tick): _stay,
    (Stopping, Quit): _quit_stopping,
    # Answers to what was said before the build was told to end: nothing hangs on them.
    (Stopping, Ack): _stay,
    (Stopping, Continue): _stay,
    (Stopping, Cancel): _stay,
    (Stopping, Who): _stay,
    **{
        (session, Die): _dismissed
        for session in (Greeting, Waiting, Building, Reporting, Delivering, Confirming, Stopping)
    },
    **{
        (session, Proceeded): _stay
        for session in (Greeting, Waiting, Resting, Reporting, Confirming, Stopping, Gone)
    },
    (Gone, Finished): _stay,
    (Gone, Delivered): _stay,
    (Gone, Tick): _stay,
    (Gone, Quit): _stay,
}
