"""Learning which projects changed: from PyPI's journal, from its list of all projects, and by
reading pages again that were not read for long. All of it only enters jobs.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from sqlalchemy import Engine

from piwheels.database import tracking
from piwheels.database.connection import transaction
from piwheels.model.errors import Unavailable
from piwheels.model.following import Mode
from piwheels.model.names import normalize
from piwheels.pypi import Journal, PyPI
from piwheels.rules.following import WORTH_A_LIST, needs_the_list

log = logging.getLogger(__name__)

BEFORE = 10_000  # serials: the journal is first read from so far back, for lists may be old copies
PART = 2_000  # projects of the list that are compared in one transaction
MOST_POLLS = 50  # pages that are entered at once


def read_journal(engine: Engine, journal: Journal, mode: Mode) -> int:
    """Enter jobs for what the journal names next; return how many entries it had.

    Where it ends is noted with the jobs, so nothing is lost between. Raise NoJournal,
    RateLimited, Unavailable.
    """
    with transaction(engine) as connection:
        serial = tracking.progress(connection).serial
    if serial == 0:
        serial = max(0, journal.last_serial() - BEFORE)
    entries = journal.since(serial)
    serials: dict[str, int | None] = {normalize(entry.name): entry.serial for entry in entries}
    with transaction(engine) as connection:
        if serials:
            tracking.enter_jobs(connection, serials, "in the journal", mode.everything)
        tracking.advance(connection, entries[-1].serial if entries else serial)
    return len(entries)


def is_journal_begun(engine: Engine) -> bool:
    """Whether the journal is read, or known not to be there: before that a list is too early."""
    with transaction(engine) as connection:
        progress = tracking.progress(connection)
    return progress.serial > 0 or not progress.has_journal


def compare_list(
    engine: Engine,
    pypi: PyPI,
    mode: Mode,
    period: float,
    go_on: Callable[[], bool] = lambda: True,
) -> bool:
    """Compare PyPI's list with what is known, if that is due; return whether it was.

    period: seconds. Raise RateLimited, Unavailable: then nothing was concluded from what the
    list lacks.
    """
    with transaction(engine) as connection:
        known = tracking.count_known(connection, WORTH_A_LIST)
        if not needs_the_list(mode, known) or not tracking.begin_comparison(connection, period):
            return False
    unknown = stale = 0
    try:
        for part in _parts(pypi.serials()):
            if not go_on():
                raise Unavailable("PyPI's list was not read to its end")
            with transaction(engine) as connection:
                news = tracking.compare(connection, part, mode.everything)
            unknown, stale = unknown + news[0], stale + news[1]
    except Unavailable:
        with transaction(engine) as connection:
            tracking.give_up_comparison(connection, 0.0)
        raise
    with transaction(engine) as connection:
        absent = tracking.end_comparison(connection, unknown, stale)
    drift = log.warning if stale else log.info
    drift(
        "PyPI's list: %d projects are new here, %d changed without the journal telling, "
        "%d are not in it",
        unknown,
        stale,
        absent,
    )
    return True


def follow_needed(engine: Engine) -> list[str]:
    """Follow what builds of followed packages lacked, from now on; return what that is."""
    with transaction(engine) as connection:
        needed = tracking.follow_needed(connection)
        if needed:
            tracking.enter_unread(connection, needed, "needed")
    return needed


def _parts(projects: Iterable[tuple[str, int | None]]) -> Iterator[dict[str, int | None]]:
    """The list in pieces, by normalized name."""
    rest = iter(projects)
    while found := list(islice(rest, PART)):
        part: dict[str, int | None] = {}
        for name, serial in found:
            package = normalize(name)
            part[package] = max(serial or 0, part.get(package) or 0) or None
        yield part


def enter_polls(engine: Engine, most: int) -> int:
    """Enter jobs for pages that were not read for long; return how many."""
    with transaction(engine) as connection:
        return tracking.enter_polls(connection, min(most, MOST_POLLS))
