"""What the status service tells monitors: the whole farm, now."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from voluptuous import Length

from piwheels.protocol.codec import Vocabulary
from piwheels.protocol.fields import Bytes, Count, Label, Line, PackageName, Seconds, VersionText


@dataclass(frozen=True, slots=True)
class SlaveStatus:
    """A slave. state: gone, silent, building, leaving, paused, quarantined, unfit or idle.

    task: what it builds, or why it gets no work. memory: in all.
    """

    label: Label
    target: Label
    state: Label
    task: Line
    last_seen: datetime
    memory: Bytes = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A build in progress."""

    build_id: Count
    package: PackageName
    version: VersionText
    target: Label
    slave: Label
    phase: Line
    since: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """The head of a queue. not_before: None, or when a retry may start at the earliest."""

    package: PackageName
    version: VersionText
    target: Label
    not_before: datetime | None = None
    cause: Line = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A build that ended. log: its public path. files: names of what it published."""

    build_id: Count
    package: PackageName
    version: VersionText
    target: Label
    outcome: Line
    seconds: Seconds
    kind: Line
    cause: Line
    fix: Line
    log: Line
    files: Annotated[tuple[Line, ...], Length(max=20)] = ()


@dataclass(frozen=True, slots=True)
class Following:
    """How far PyPI was followed. serial: all that its journal named up to it is in the database.

    projects: still to be read; of more than 10,000, so many. compared: when its list of all
    projects last was, None: never; what that found: unknown, new projects; stale, projects that
    had changed without the journal telling; absent, projects that it did not list any more.
    """

    serial: Count = 0
    projects: Count = 0
    has_journal: bool = True
    compared: datetime | None = None
    unknown: Count = 0
    stale: Count = 0
    absent: Count = 0


@dataclass(frozen=True, slots=True)
class Farm:
    """The farm at *moment*. queued: builds that may begin soon; waiting: the first of all.

    later: retries that are put off. pages: page jobs still to do; of more than 10,000, so many.
    """

    moment: datetime
    queued: Count
    later: Count
    pages: Count
    waiting: Annotated[tuple[Waiting, ...], Length(max=100)]
    running: Annotated[tuple[Running, ...], Length(max=2_000)]
    ended: Annotated[tuple[Ended, ...], Length(max=100)]
    slaves: Annotated[tuple[SlaveStatus, ...], Length(max=2_000)]
    following: Following = field(default_factory=Following)


FROM_STATUS = Vocabulary(Farm)
