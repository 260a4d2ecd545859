"""What PyPI says of a package, and how that differs from what is known."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from piwheels.model.builds import Sdist


class Status(StrEnum):
    """What PyPI says of a project as a whole (PEP 792); deleted: that there is none any more."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    DEPRECATED = "deprecated"
    QUARANTINED = "quarantined"
    DELETED = "deleted"


WITHDRAWN = frozenset({Status.QUARANTINED, Status.DELETED})  # neither built nor shown


@dataclass(frozen=True, slots=True)
class ProjectVersion:
    """One version on PyPI, as PyPI spells it.

    released: of its first file, None where the index does not say. yanked: None, or the
    reason, which may be empty (PEP 592). sdist: the best one to build from. tags: of all of
    its wheels together.
    """

    version: str
    released: datetime | None = None
    requires_python: str = ""
    yanked: str | None = None
    sdist: Sdist | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ProjectPage:
    """All that PyPI says of a package; versions in no order.

    package: normalized. serial: of PyPI's last change to it, None where the index does not
    say. left_out: how many files play no part: odd names, odd versions, no SHA-256, formats
    that nobody builds from or installs any more. status: "active", "archived", "quarantined"
    or "deprecated" (PEP 792), with a reason that may be empty.
    """

    package: str
    display_name: str
    versions: tuple[ProjectVersion, ...] = ()
    serial: int | None = None
    left_out: int = 0
    status: str = "active"
    status_reason: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What PyPI says now and did not say before; gone: as they are to be kept (see withdrawn)."""

    new: tuple[ProjectVersion, ...] = ()
    changed: tuple[ProjectVersion, ...] = ()
    gone: tuple[ProjectVersion, ...] = ()

    @property
    def versions(self) -> tuple[ProjectVersion, ...]:
        """All of them."""
        return self.new + self.changed + self.gone
