"""What administrators' tools ask of the admin service: one request, one reply."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from voluptuous import Length, Match, Range

from piwheels.protocol.codec import Vocabulary
from piwheels.protocol.fields import (
    Bytes,
    Count,
    Label,
    Line,
    PackageName,
    Paragraph,
    VersionText,
)
from piwheels.protocol.slave import Tags

MOST_TARGETS = 1_000

Alias = Annotated[str, Length(min=1, max=255)]
OptionalVersion = Annotated[str, Length(max=255)]
OptionalLabel = Annotated[str, Length(max=80)]
Rank = Annotated[int, Range(min=-(2**31), max=2**31 - 1)]
KeptVersions = Annotated[int, Range(min=0, max=2**31 - 1)]  # 0: all
Prereleases = Annotated[str, Match(r"^(build|last|never)?\Z")]
Policy = Annotated[str, Match(r"^(all|missing)?\Z")]
Targets = Annotated[tuple[Label, ...], Length(min=1, max=MOST_TARGETS)]


# piw-add


@dataclass(frozen=True, slots=True)
class Rules:
    """How versions of a package are chosen and built; "" or none: as it is.

    prereleases: build, last or never. keep: only so many of the newest versions are built; 0: all
    of them. policy: all, or missing: only what PyPI has no wheel for. network: whether builds
    of the package may reach the network.
    """

    prereleases: Prereleases = ""
    keep: KeptVersions | None = None
    policy: Policy = ""
    network: bool | None = None


@dataclass(frozen=True, slots=True)
class Add:
    """Build *package*: the versions that *specifier* admits (PEP 440), the newest of them.

    skip: None leaves it as it is, "" unskips and builds, any other text is the reason to
    skip: the package if there is no specifier, else the version. description: "" leaves it
    as it is. A package without a specifier is followed from now on, and all its versions are
    built in time; is_once: it is not. is_dry_run: say what would be done, and do nothing.
    """

    package: PackageName
    specifier: Line = ""
    skip: Line | None = None
    description: Line = ""
    aliases: Annotated[tuple[Alias, ...], Length(max=100)] = ()
    rules: Rules = field(default_factory=Rules)
    is_dry_run: bool = False
    is_once: bool = False


@dataclass(frozen=True, slots=True)
class Added:
    """Done. is_news: whether anything changed.

    version: that is wanted now, or skipped; "" if the whole package is skipped.
    """

    package: PackageName
    version: OptionalVersion
    is_news: bool
    warnings: Annotated[tuple[Line, ...], Length(max=20)] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """Not done, for *reason*; nothing changed. hint: the next step."""

    reason: Line
    hint: Line = ""


# piw-why


@dataclass(frozen=True, slots=True)
class InProgress:
    """A build that runs. until: when it should end, by what such builds took; none: unknown."""

    slave: Line
    phase: Line
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class InLine:
    """A place in a target's queue. lane: in words.

    ahead: so many builds come first; is_more: more than that. not_before: of a retry.
    begins: when it should begin; none: nobody can say. obstacle: why no slave can take it, or
    "".
    """

    lane: Line
    ahead: Count | None = None
    is_more: bool = False
    not_before: datetime | None = None
    begins: datetime | None = None
    obstacle: Line = ""


@dataclass(frozen=True, slots=True)
class TargetStanding:
    """On one target: see model.published.Standing.

    words: all of it in a sentence. next_step: what an operator can do, or "". kind, attempts,
    ended: of the newest build, if it failed. files: names of those that cover the target.
    """

    target: Line
    state: Line
    filename: Line = ""
    log: Line = ""
    cause: Line = ""
    fix: Line = ""
    words: Paragraph = ""
    next_step: Line = ""
    kind: Line = ""
    attempts: Count = 0
    ended: datetime | None = None
    files: Annotated[tuple[Line, ...], Length(max=100)] = ()
    published: datetime | None = None
    building: InProgress | None = None
    waiting: InLine | None = None


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """Another version of the package. states: on so many targets."""

    version: VersionText
    released: datetime | None
    states: dict[Line, Count]


@dataclass(frozen=True, slots=True)
class Look:
    """How does this *version* of *package* stand? As piw-add named it."""

    package: PackageName
    version: VersionText


@dataclass(frozen=True, slots=True)
class Standings:
    """On every active target, in their order; none if nobody knows the version."""

    standings: Annotated[tuple[TargetStanding, ...], Length(max=MOST_TARGETS)]


@dataclass(frozen=True, slots=True)
class Why:
    """Why does *package* stand as it does? Any spelling of it.

    version: "" for the newest that anybody asked for, with a line for each of *most* others.
    target: only this one; "" for all active ones.
    """

    package: Alias
    version: OptionalVersion = ""
    target: OptionalLabel = ""
    most: Annotated[int, Range(min=0, max=100_000)] = 20


@dataclass(frozen=True, slots=True)
class Reasons:
    """How *version* of *package* stands on each target, in full.

    others: the next versions, newest first; unshown: so many more there are.
    """

    package: PackageName
    version: VersionText
    released: datetime | None
    standings: Annotated[tuple[TargetStanding, ...], Length(max=MOST_TARGETS)]
    others: Annotated[tuple[OtherVersion, ...], Length(max=100_000)] = ()
    unshown: Count = 0


# piw-target


@dataclass(frozen=True, slots=True)
class ListTargets:
    """Which targets are there, and how much waits for each?"""


@dataclass(frozen=True, slots=True)
class LaneLength:
    """So much waits in a *lane*, by its number: *ready* now, or *later*."""

    lane: Count
    ready: Count
    later: Count


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """A target. slaves: present; largest: the memory of the largest of them.

    ready, later: builds that wait for a slave, and for their time.
    """

    name: Label
    label: Line
    python: VersionText
    rank: int
    is_active: bool
    slaves: Count
    largest: Bytes
    ready: Count
    later: Count
    lanes: Annotated[tuple[LaneLength, ...], Length(max=100)] = ()


@dataclass(frozen=True, slots=True)
class TargetList:
    """All targets, by rank."""

    targets: Annotated[tuple[TargetStatus, ...], Length(max=MOST_TARGETS)]


@dataclass(frozen=True, slots=True)
class AddTarget:
    """Enter a target before any slave offers it. rank: none for the usual one of its Python."""

    name: Label
    label: Label
    python: VersionText
    tags: Tags
    rank: Rank | None = None
    is_active: bool = True
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ChangeTargets:
    """Change all of *targets*: what is none or "" stays as it is."""

    targets: Targets
    is_active: bool | None = None
    rank: Rank | None = None
    label: OptionalLabel = ""
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class SkipOnTarget:
    """Never build *package*, or just *version* of it, on *target*; reason "": build it again."""

    target: Label
    package: Alias
    version: OptionalVersion = ""
    reason: Line = ""
    is_dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """Done. names: of what is different now. waiting: so many builds wait on those targets."""

    names: Annotated[tuple[Line, ...], Length(max=MOST_TARGETS)]
    waiting: Count = 0
    warnings: Annotated[tuple[Line, ...], Length(max=20)] = ()


FROM_TOOL = Vocabulary(Add, Look, Why, ListTargets, AddTarget, ChangeTargets, SkipOnTarget)
FROM_ADMIN = Vocabulary(Added, Failed, Standings, Reasons, TargetList, Changed)
