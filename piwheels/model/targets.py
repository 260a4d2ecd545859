"""What wheels are built for: one interpreter on one platform."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetOffer:
    """A target as a slave describes it.

    name: e.g. cp311-linux_armv7l. label: for people, e.g. CPython 3.11 on Debian 12.
    python: the interpreter's full version, e.g. 3.11.2.
    tags: every tag it supports, best first (packaging.tags.sys_tags).
    """

    name: str
    label: str
    python: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A target as the master keeps it. Lower ranks build first what is not known to be native.

    size: of the largest slave it ever had, see rules.resources.
    """

    target_id: int
    name: str
    python: str
    rank: int
    active: bool
    tags: frozenset[str]
    size: int = 0
