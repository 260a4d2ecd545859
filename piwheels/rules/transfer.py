"""How a file gets from a slave to the farm over a channel that loses, repeats and reorders.

Two tables: the sender's and the receiver's. The sender offers, and answers what it is asked;
the receiver asks for at most WINDOW chunks that are not here yet and takes them in order, so
that the length of what is staged says all there is to know after a crash. A chunk that comes
early, late or twice is not the one wanted next and is ignored. Silence makes either side
repeat itself; both may be restarted at any moment, and neither needs what it remembered.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from piwheels.model.errors import IllegalMessage
from piwheels.protocol.files import CHUNK, WINDOW, Chunk, Fetch, Put, Refused, Stored

MOST_STARTS = 3  # times all bytes may come before the sender's disk or memory is to blame


# What both sides do and live through.


@dataclass(frozen=True, slots=True)
class Say:
    """Send *message* to the other side."""

    message: Put | Chunk | Fetch | Stored | Refused


@dataclass(frozen=True, slots=True)
class Silence:
    """The other side was not heard of for as long as this side's patience lasts."""


# The sender.


@dataclass(frozen=True, slots=True)
class Offering:
    """Nothing was heard since the last offer."""

    put: Put


@dataclass(frozen=True, slots=True)
class Sending:
    """The receiver asks for chunks."""

    put: Put


@dataclass(frozen=True, slots=True)
class Delivered:
    """The verdict is here. reason: why it refused, None if the file is stored."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class Read:
    """Say the Chunk with these *length* bytes from *offset* of the file."""

    offset: int
    length: int


SenderState = Offering | Sending | Delivered
SenderAction = Say | Read
SenderStep = tuple[SenderState, list[SenderAction]]


def offer(put: Put) -> SenderStep:
    """Begin to send the file that *put* tells of."""
    return Offering(put), [Say(put)]


def _offer_again(state: Offering | Sending, _: Silence) -> SenderStep:
    return offer(state.put)


def _read(state: Offering | Sending, fetch: Fetch) -> SenderStep:
    if fetch.offset + fetch.length > state.put.size:
        raise IllegalMessage(f"asked for bytes beyond the end of {state.put.name}")
    return Sending(state.put), [Read(fetch.offset, fetch.length)]


def _be_done(_: Offering | Sending, __: Stored) -> SenderStep:
    return Delivered(None), []


def _give_up(_: Offering | Sending, refused: Refused) -> SenderStep:
    return Delivered(refused.reason), []


def _rest(state: SenderState, _: object) -> SenderStep:
    return state, []


SENDER: dict[tuple[type, type], Callable[[Any, Any], SenderStep]] = {
    (Offering, Fetch): _read,
    (Offering, Stored): _be_done,
    (Offering, Refused): _give_up,
    (Offering, Silence): _offer_again,
    (Sending, Fetch): _read,
    (Sending, Stored): _be_done,
    (Sending, Refused): _give_up,
    (Sending, Silence): _offer_again,
    # What was on its way when the verdict came.
    (Delivered, Fetch): _rest,
    (Delivered, Stored): _rest,
    (Delivered, Refused): _rest,
    (Delivered, Silence): _rest,
}


def send_step(state: SenderState, event: object) -> SenderStep:
    """Return the sender's next state and what to do. Raise IllegalMessage if none fits."""
    handler = SENDER.get((type(state), type(event)))
    if handler is None:
        raise IllegalMessage(f"{type(event).__name__} while {type(state).__name__}")
    return handler(state, event)


# The receiver: of one file of one lease.


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is remembered of this file: at first, after a restart, after a fault."""


@dataclass(frozen=True, slots=True)
class Receiving:
    """*offset* bytes are staged; chunks up to *asked* were asked for.

    starts: how often the first byte was asked for by this receiver.
    """

    put: Put
    offset: int
    asked: int
    starts: int = 1


@dataclass(frozen=True, slots=True)
class Verifying:
    """Nothing more is wanted of the sender; the verdict is not on record yet."""

    put: Put
    starts: int = 1


@dataclass(frozen=True, slots=True)
class Settled:
    """As an event: the verdict is on record. As a state: it was told, and is told again."""

    verdict: Stored | Refused


@dataclass(frozen=True, slots=True)
class LookUp:
    """Find out whether the file is wanted: Wanted, Unfit or Settled follows."""

    put: Put


@dataclass(frozen=True, slots=True)
class Wanted:
    """It is, just as *put* tells of it; *staged* bytes of it are here already."""

    put: Put
    staged: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """A file of this name is wanted, but not this one, for *reason*."""

    put: Put
    reason: str


@dataclass(frozen=True, slots=True)
class Append:
    """Stage *data*, which belongs at *offset*."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Erase:
    """Unstage all bytes."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Verify the staged file and place it: Settled, Corrupt or Faltered follows."""

    put: Put


@dataclass(frozen=True, slots=True)
class Refuse:
    """Put on record that the file is refused for *reason*: Settled follows."""

    put: Put
    reason: str


@dataclass(frozen=True, slots=True)
class Corrupt:
    """The staged bytes are not those that were announced."""


@dataclass(frozen=True, slots=True)
class Faltered:
    """Something here failed that may work later: the disk is full, the database away."""


ReceiverState = Unknown | Receiving | Verifying | Settled
ReceiverAction = Say | LookUp | Append | Erase | Verify | Refuse
ReceiverStep = tuple[ReceiverState, list[ReceiverAction]]


def fault_of(put: Put, size: int, sha256: str, largest: int) -> str | None:
    """Why *put* is not the offer of the file that was asked for; None if it is.

    largest: bytes that the operator lets one file have.
    """
    if (put.size, put.sha256) != (size, sha256):
        return f"{put.name} is not the file that BUILT told of: its size or its hash differs"
    if size > largest:
        return f"{put.name} has {size} bytes; this farm takes {largest} at most"
    return None


def _ask(state: Receiving) -> ReceiverStep:
    """Ask for what the window has room for; verify if there is nothing left to ask for."""
    put, end = state.put, min(state.put.size, state.offset + WINDOW * CHUNK)
    if state.offset == put.size:
        return Verifying(put, state.starts), [Verify(put)]
    asks: list[ReceiverAction] = [
        Say(Fetch(put.lease, put.name, offset, min(CHUNK, put.size - offset)))
        for offset in range(state.asked, end, CHUNK)
    ]
    return replace(state, asked=state.asked + len(asks) * CHUNK), asks


def _look_up(_: Unknown, put: Put) -> ReceiverStep:
    return Unknown(), [LookUp(put)]


def _begin(_: Unknown, wanted: Wanted) -> ReceiverStep:
    if wanted.staged > wanted.put.size:
        return _start_over(wanted.put, starts=1)
    return _ask(Receiving(wanted.put, wanted.staged, wanted.staged))


def _start_over(put: Put, starts: int) -> ReceiverStep:
    state, actions = _ask(Receiving(put, 0, 0, starts))
    return state, [Erase(), *actions]


def _refuse(_: Unknown, unfit: Unfit) -> ReceiverStep:
    return Verifying(unfit.put), [Refuse(unfit.put, unfit.reason)]


def _take(state: Receiving, chunk: Chunk) -> ReceiverStep:
    wanted = min(CHUNK, state.put.size - state.offset)
    if (chunk.offset, len(chunk.data)) != (state.offset, wanted):
        return state, []
    following, actions = _ask(replace(state, offset=state.offset + wanted))
    return following, [Append(chunk.offset, chunk.data), *actions]


def _hear_offer(state: Receiving, put: Put) -> ReceiverStep:
    if put != state.put:
        return Unknown(), [LookUp(put)]
    return _ask_again(state, put)


def _ask_again(state: Receiving, _: Put | Silence) -> ReceiverStep:
    return _ask(replace(state, asked=state.offset))


def _doubt(state: Verifying, _: Corrupt) -> ReceiverStep:
    if state.starts < MOST_STARTS:
        return _start_over(state.put, state.starts + 1)
    reason = f"{state.put.name} came {state.starts} times with bytes that are not its own"
    return state, [Erase(), Refuse(state.put, reason)]


def _settle(_: Unknown | Verifying, settled: Settled) -> ReceiverStep:
    return settled, [Say(settled.verdict)]


def _tell_again(state: Settled, _: Put) -> ReceiverStep:
    return state, [Say(state.verdict)]


def _forget(_: ReceiverState, __: Faltered) -> ReceiverStep:
    return Unknown(), []


def _ignore(state: ReceiverState, _: object) -> ReceiverStep:
    return state, []


RECEIVER: dict[tuple[type, type], Callable[[Any, Any], ReceiverStep]] = {
    (Unknown, Put): _look_up,
    (Unknown, Wanted): _begin,
    (Unknown, Unfit): _refuse,
    (Unknown, Settled): _settle,
    (Unknown, Chunk): _ignore,  # asked for before a restart
    (Unknown, Silence): _ignore,
    (Unknown, Faltered): _forget,
    (Receiving, Put): _hear_offer,  # the sender was restarted, or our asking was lost
    (Receiving, Chunk): _take,
    (Receiving, Silence): _ask_again,
    (Receiving, Faltered): _forget,
    (Verifying, Corrupt): _doubt,
    (Verifying, Settled): _settle,
    (Verifying, Faltered): _forget,
    (Verifying, Put): _ignore,  # the verdict will be told
    (Verifying, Chunk): _ignore,
    (Verifying, Silence): _ignore,
    (Settled, Put): _tell_again,
    (Settled, Chunk): _ignore,
    (Settled, Silence): _ignore,
}


def receive_step(state: ReceiverState, event: object) -> ReceiverStep:
    """Return the receiver's next state and what to do. Raise IllegalMessage if none fits."""
    handler = RECEIVER.get((type(state), type(event)))
    if handler is None:
        raise IllegalMessage(f"{type(event).__name__} while {type(state).__name__}")
    return handler(state, event)
