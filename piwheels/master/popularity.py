"""Bringing download counts into the database: they order the queue, and say what is popular."""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice

from sqlalchemy import Engine

from piwheels.database import queue, tracking
from piwheels.database.connection import transaction
from piwheels.model.following import Follow, Mode
from piwheels.pypi.popularity import fetch_counts
from piwheels.rules.following import policy_of
from piwheels.rules.popularity import read_counts

log = logging.getLogger(__name__)

PART = 5_000  # projects in one transaction


def count(engine: Engine, source: str, mode: Mode, period: float) -> bool:
    """Read the counts of *source*, if that is due; return whether it was.

    period: seconds. Raise BadCounts, RateLimited, Unavailable.
    """
    with transaction(engine) as connection:
        if not tracking.is_count_due(connection, period):
            return False
    counts = read_counts(fetch_counts(source))
    popular = dict(islice(counts.items(), mode.top))
    for part in _parts(popular):
        _put(engine, part, Follow.POPULAR)
    with transaction(engine) as connection:
        if mode.top:
            tracking.keep_popular(connection, popular)
    others = {name: number for name, number in counts.items() if name not in popular}
    for part in _parts(others):
        _put(engine, part, Follow.ALL if mode.everything else Follow.NOT)
    with transaction(engine) as connection:
        tracking.end_count(connection)
    log.info("popularity: %d projects are counted in %s", len(counts), source)
    return True


def _put(engine: Engine, counts: Mapping[str, int], follow: Follow) -> None:
    with transaction(engine) as connection:
        moved = tracking.put_counts(connection, counts, follow, policy_of(follow))
        queue.judge_again(connection, moved)
        if follow is not Follow.NOT:
            tracking.enter_unread(connection, counts, "popular")


def _parts(counts: Mapping[str, int]) -> Iterator[dict[str, int]]:
    rest = iter(counts.items())
    while part := dict(islice(rest, PART)):
        yield part
