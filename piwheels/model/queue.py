"""How versions stand on targets: what the queue's rule asks, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum

from piwheels.model.builds import FailureClass

AT_ONCE = datetime.min.replace(tzinfo=UTC)


class Lane(IntEnum):
    """Priority classes; lower ones first. Every lane gets its share: see rules.lanes."""

    MANUAL = 0  # an operator asked for it
    NEW = 1  # released while the farm was following
    BACKLOG = 2
    LAST = 3  # pre-releases of packages that want them built last


class State(StrEnum):
    """How a version stands on a target. Exactly the WAITING ones have a queue row."""

    UNWANTED = "unwanted"  # nobody asked for it
    SKIPPED = "skipped"
    UNSUPPORTED = "unsupported"  # requires_python says no
    NO_SDIST = "no sdist"
    DONE = "done"
    BUILDING = "building"
    WAITING = "waiting"
    DEFERRED = "deferred"  # another target tries first: the wheel may do for both
    FAILED = "failed"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class FailedBuild:
    """A build that failed, when it ended, on which slave, and that slave's size."""

    build_id: int
    kind: FailureClass
    ended: datetime
    slave_id: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """All that the rule asks of a version.

    lane: None if nobody asked for it. skip: a reason, '' for none; target_skips: the same
    by target. yanked: None, or the reason, which may be ''. prereleases: what the package
    wants of them: build, last, never. keep: only so many newest versions of the package are
    built, None: all; newer: so many versions of it are newer than this one.
    pypi_tags: of all of PyPI's own wheels. file_tags: of all of ours.
    failures: by target, oldest first, since the last thing that gave it a new chance.
    sizes: of the slave that past builds of the package suggest, by target.
    building: targets with a live lease.
    """

    lane: int | None = 0
    skip: str = ""
    target_skips: Mapping[int, str] = field(default_factory=dict)
    yanked: str | None = None
    is_prerelease: bool = False
    prereleases: str = "build"
    keep: int | None = None
    newer: int = 0
    has_sdist: bool = True
    requires_python: str = ""
    policy: str = "all"
    pypi_tags: frozenset[str] = frozenset()
    file_tags: frozenset[str] = frozenset()
    failures: Mapping[int, Sequence[FailedBuild]] = field(default_factory=dict)
    sizes: Mapping[int, int] = field(default_factory=dict)
    building: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a version stands on one target. reason: one line, '' where the state says it all.

    attempts: made so far. For WAITING only: not_before: AT_ONCE or when a retry may begin;
    lane; size: of the smallest slave that can do it; avoid: the slave that should not, or None.
    """

    state: State
    reason: str = ""
    not_before: datetime = AT_ONCE
    attempts: int = 0
    lane: int = Lane.MANUAL
    size: int = 0
    avoid: int | None = None
