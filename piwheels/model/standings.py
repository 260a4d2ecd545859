"""How one version stands on one target, and what is known of it besides the rule's verdict."""

from dataclasses import dataclass
from datetime import datetime

from piwheels.model.queue import Verdict
from piwheels.model.slaves import Slave
from piwheels.model.targets import Target


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A version of a package. lane: None if nobody asked for it. skip: a reason, or ''."""

    version_id: int
    version: str
    released: datetime | None
    lane: int | None
    skip: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """The newest build of a version on a target. log: its public path."""

    outcome: str
    kind: str
    cause: str
    fix: str
    log: str
    ended: datetime


@dataclass(frozen=True, slots=True)
class Wheel:
    """A published file of the version."""

    filename: str
    published: datetime
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Running:
    """A build in progress. usual_seconds: what such builds took, None where nobody knows."""

    slave: str
    phase: str
    since: datetime
    usual_seconds: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """A row of the queue. not_before: None, or when a retry may begin.

    ahead: so many builds come first, of those that are ready; is_more: more than that.
    size: of the smallest slave that can build it, see rules.resources.
    """

    lane: int
    size: int
    not_before: datetime | None
    ahead: int = 0
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class FullStanding:
    """All that there is to say of *version* of *package* on *target*; pages show less of it.

    wheels: those that cover the target. slaves: of the target, present ones. pace: seconds that
    builds on this target took lately, None if there were none. unskip: the command that undoes
    a skip, '' if nothing is skipped.
    """

    package: str
    version: str
    target: Target
    verdict: Verdict
    attempt: Attempt | None = None
    wheels: tuple[Wheel, ...] = ()
    running: Running | None = None
    place: Place | None = None
    slaves: tuple[Slave, ...] = ()
    pace: float | None = None
    unskip: str = ""
