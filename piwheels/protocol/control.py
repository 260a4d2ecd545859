"""What operators' tools ask of the status service, to steer slaves: one request, one reply.

Each request names slaves by their labels; or *everyone*: all slaves that are present.
"""

from dataclasses import dataclass
from typing import Annotated

from voluptuous import Length

from piwheels.protocol.codec import Vocabulary
from piwheels.protocol.fields import Label, Line
from piwheels.protocol.status import SlaveStatus

MOST_SLAVES = 2_000

Slaves = Annotated[tuple[Label, ...], Length(max=MOST_SLAVES)]


@dataclass(frozen=True, slots=True)
class ListSlaves:
    """How are they? None named: all."""

    slaves: Slaves = ()


@dataclass(frozen=True, slots=True)
class Pause:
    """Give them no more work. now: end also what they build."""

    slaves: Slaves = ()
    everyone: bool = False
    now: bool = False


@dataclass(frozen=True, slots=True)
class Resume:
    """Give them work again: neither pause nor leave."""

    slaves: Slaves = ()
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """Let them leave, each after the build it is at."""

    slaves: Slaves = ()
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """Let them leave at once; what they build is built by others."""

    slaves: Slaves = ()
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class Skip:
    """End what they build, and build it no more on their targets, for *reason*."""

    reason: Annotated[str, Length(min=1, max=1_000)]
    slaves: Slaves = ()
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class Forgive:
    """End their quarantine, and forget the failures that led to it."""

    slaves: Slaves = ()
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class Concerned:
    """A slave that was asked for. is_news: whether this changed anything for it.

    build: what it builds, or built until now, as "numpy 2.0"; "" for nothing.
    """

    label: Label
    is_news: bool
    build: Line = ""


@dataclass(frozen=True, slots=True)
class Done:
    """It is so, for these slaves."""

    slaves: Annotated[tuple[Concerned, ...], Length(max=MOST_SLAVES)]


@dataclass(frozen=True, slots=True)
class Failed:
    """Not done, for *reason*; nothing changed. hint: the next step."""

    reason: Line
    hint: Line = ""


@dataclass(frozen=True, slots=True)
class SlaveList:
    """The slaves, by label."""

    slaves: Annotated[tuple[SlaveStatus, ...], Length(max=MOST_SLAVES)]


FROM_OPERATOR = Vocabulary(ListSlaves, Pause, Resume, Drain, Kill, Skip, Forgive)
FROM_CONTROL = Vocabulary(Done, Failed, SlaveList)
