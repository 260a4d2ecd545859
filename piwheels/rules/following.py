"""Which of PyPI's projects are followed, what is wanted of them, and when to look again: pure."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from piwheels.model.errors import PiwheelsError
from piwheels.model.following import Follow, Mode, Project
from piwheels.model.projects import WITHDRAWN, ProjectVersion, Status
from piwheels.model.queue import Lane

SECOND_LOOK = 60.0  # seconds after which a project that is missing again is believed to be gone
FIRST_DELAY, LONGEST_DELAY = 2.0, 3_600.0  # seconds until what could not be read is tried again
WORTH_A_LIST = 2_000  # projects: PyPI's whole list costs as much as some so many pages
RARELY = 24  # times as long until a page is read again from which little is expected


class BadMode(PiwheelsError):
    """A word for what to follow that is none. The operator's fault."""


def read_mode(text: str) -> Mode:
    """Read all, listed, listed+dependencies or top:N. Raise BadMode."""
    if top := re.fullmatch(r"top:([1-9][0-9]{0,7})", text):
        return Mode(top=int(top[1]))
    known = {
        "all": Mode(everything=True),
        "listed": Mode(),
        "listed+dependencies": Mode(needed=True),
    }
    if text not in known:
        raise BadMode(f"{text!r} cannot be followed: write all, listed, listed+dependencies, top:N")
    return known[text]


def counts(mode: Mode, follow: Follow) -> bool:
    """Whether a package that is followed for this reason is so under *mode*."""
    return (
        follow is Follow.LISTED
        or mode.everything
        or (follow is Follow.NEEDED and mode.needed)
        or (follow is Follow.POPULAR and mode.top > 0)
    )


def follow_of(mode: Mode, follow: Follow) -> Follow:
    """Why a package is followed from now on, that was for *follow*."""
    return Follow.ALL if mode.everything and follow is Follow.NOT else follow


def policy_of(follow: Follow) -> str:
    """The policy of a package that becomes known for this reason.

    A rebuilt pure wheel would only shadow PyPI's own; but what people ask for by name they get.
    """
    return "all" if follow in (Follow.LISTED, Follow.NOT) else "missing"


def wishes(
    project: Project, since: datetime, unwanted: Collection[str], versions: Iterable[ProjectVersion]
) -> dict[str, Lane]:
    """In which lanes the *versions* on the page of a followed *project* are wanted from now on.

    since: when it became followed. unwanted: those on record that nobody wants.
    Those that somebody wants already are left as they are; see lane_of for the others.
    """
    was_read = project.last_read is not None
    return {
        version.version: lane_of(version, since, was_read and version.version not in unwanted)
        for version in versions
    }


def lane_of(version: ProjectVersion, since: datetime, is_news: bool) -> Lane:
    """The lane of a version of a package that is followed *since* then.

    is_news: whether the page was read before without it; asked where the index keeps no times.
    """
    if version.released is None:
        return Lane.NEW if is_news else Lane.BACKLOG
    return Lane.NEW if version.released >= since else Lane.BACKLOG


def is_older(project: Project, serial: int | None) -> bool:
    """Whether a page with this serial is older than what is on record."""
    return serial is not None and serial < project.serial


def is_gone(missing: float | None) -> bool:
    """Whether to believe that a project is gone, that PyPI does not have now either.

    missing: seconds since PyPI first said so, None: it does for the first time.
    """
    return missing is not None and missing >= SECOND_LOOK


def retry(attempts: int, jitter: float) -> float:
    """Seconds until a page is read again that could not be, after so many failed attempts
    before this one. jitter: from 0 to 1.
    """
    return min(FIRST_DELAY * 2.0 ** min(attempts, 20), LONGEST_DELAY) * (1 + jitter / 2)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often pages are read again, whether or not anybody tells of news."""

    period: timedelta


def next_read(
    rhythm: Rhythm, status: Status, is_followed: bool, quiet: timedelta, jitter: float
) -> timedelta:
    """How long a page need not be read.

    quiet: since it last had news; what has news tends to have more. jitter: from 0 to 1; it
    spreads evenly what was read at once.
    """
    if status is not Status.ACTIVE or not is_followed:
        longest = shortest = rhythm.period * RARELY
    else:
        longest, shortest = rhythm.period, rhythm.period / 6
    return min(max(quiet / 10, shortest), longest) * (1 - jitter / 4)


def needs_the_list(mode: Mode, known: int) -> bool:
    """Whether to compare PyPI's whole list with the *known* packages.

    Where few are known, reading their pages now and then finds all that the list would.
    """
    return mode.everything or known >= WORTH_A_LIST


def is_shown(status: Status) -> bool:
    """Whether pages and wheels of a project are public."""
    return status not in WITHDRAWN
