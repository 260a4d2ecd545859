"""What administrators' tools ask of the admin service: one request, one reply."""

from dataclasses import dataclass
from typing import Annotated

from voluptuous import Length

from piwheels.protocol.codec import Vocabulary
from piwheels.protocol.fields import Line, PackageName, VersionText

Alias = Annotated[str, Length(min=1, max=255)]
OptionalVersion = Annotated[str, Length(max=255)]


@dataclass(frozen=True, slots=True)
class Add:
    """Build *package*: the versions that *specifier* admits (PEP 440), the newest of them.

    skip: None leaves it as it is, "" unskips and builds, any other text is the reason to
    skip: the package if there is no specifier, else the version. description: "" leaves it
    as it is. is_dry_run: say what would be done, and do nothing.
    """

    package: PackageName
    specifier: Line = ""
    skip: Line | None = None
    description: Line = ""
    aliases: Annotated[tuple[Alias, ...], Length(max=100)] = ()
    is_dry_run: bool = False


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


@dataclass(frozen=True, slots=True)
class Look:
    """How does this *version* of *package* stand? As piw-add named it."""

    package: PackageName
    version: VersionText


@dataclass(frozen=True, slots=True)
class TargetStanding:
    """On one target: see model.published.Standing."""

    target: Line
    state: Line
    filename: Line = ""
    log: Line = ""
    cause: Line = ""
    fix: Line = ""


@dataclass(frozen=True, slots=True)
class Standings:
    """On every active target, in their order; none if nobody knows the version."""

    standings: Annotated[tuple[TargetStanding, ...], Length(max=1_000)]


FROM_TOOL = Vocabulary(Add, Look)
FROM_ADMIN = Vocabulary(Added, Failed, Standings)
