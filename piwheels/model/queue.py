"""How versions stand on targets: what the queue's rule asks, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from piwheels.model.builds import FailureClass

AT_ONCE = datetime.min.replace(tzinfo=UTC)


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
    """A build that failed, and when it ended."""

    build_id: int
    kind: FailureClass
    ended: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """All that the rule asks of a version.

    lane: None if nobody asked for it. skip: a reason, '' for none; target_skips: the same
    by target. pypi_tags: of all of PyPI's own wheels. file_tags: of all of ours.
    failures: by target, oldest first, since the last thing that gave it a new chance.
    building: targets with a live lease.
    """

    lane: int | None = 0
    skip: str = ""
    target_skips: Mapping[int, str] = field(default_factory=dict)
    has_sdist: bool = True
    requires_python: str = ""
    policy: str = "all"
    pypi_tags: frozenset[str] = frozenset()
    file_tags: frozenset[str] = frozenset()
    failures: Mapping[int, Sequence[FailedBuild]] = field(default_factory=dict)
    building: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a version stands on one target. reason: one line, '' where the state says it all.

    not_before: for WAITING only, AT_ONCE or when a retry may begin. attempts: made so far.
    """

    state: State
    reason: str = ""
    not_before: datetime = AT_ONCE
    attempts: int = 0
