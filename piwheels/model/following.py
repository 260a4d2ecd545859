"""What of PyPI is followed, and the jobs of reading it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from piwheels.model.projects import Status


class Follow(StrEnum):
    """Why a package's new versions are wanted."""

    NOT = ""
    LISTED = "listed"  # an operator added it
    NEEDED = "needed"  # what is listed depends on it
    POPULAR = "popular"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Mode:
    """What is followed beside what is listed. top: so many of the most popular, 0: none."""

    everything: bool = False
    needed: bool = False
    top: int = 0


@dataclass(frozen=True, slots=True)
class ProjectJob:
    """The need to read a project's page.

    name: normalized. serial: that the page must have at least; None: any will do. attempts:
    that failed so far. missing: seconds since PyPI first said there is no such project, None
    if it never did.
    """

    name: str
    serial: int | None = None
    reason: str = ""
    attempts: int = 0
    missing: float | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A package as it is on record. followed: since when. last_read: its page, None: never
    since it is followed. quiet: for so long its page had no news.
    """

    package_id: int
    name: str
    display_name: str
    serial: int = 0
    status: Status = Status.ACTIVE
    status_reason: str = ""
    follow: Follow = Follow.NOT
    followed: datetime | None = None
    last_read: datetime | None = None
    quiet: timedelta = timedelta(0)
