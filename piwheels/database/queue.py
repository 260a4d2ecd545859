"""The table ``queue``, and what its rule asks of the other tables."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from packaging.version import InvalidVersion
from packaging.version import Version as Pep440
from sqlalchemy import Connection

from piwheels.database import tag_sets
from piwheels.database.statements import statement
from piwheels.database.tag_sets import TagSets
from piwheels.model.builds import FailureClass
from piwheels.model.queue import FailedBuild, Version
from piwheels.model.targets import Target


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the queue: see the schema. Lower lanes first, then popularity, then newest."""

    version_id: int
    target_id: int
    lane: int
    popularity: int
    released: datetime
    not_before: datetime
    attempts: int
    size: int = 0
    avoid: int | None = None

    @property
    def key(self) -> tuple[int, int]:
        """What the row is about."""
        return self.version_id, self.target_id


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a version is judged by, failures apart: millions share a few thousand of these."""

    lane: int | None
    skip: str
    yanked: str | None
    prereleases: str
    is_prerelease: bool
    keep: int | None
    newer: int
    policy: str
    requires_python: str
    pypi_tag_set_id: int | None
    has_sdist: bool
    file_tag_set_ids: tuple[int, ...]
    building: tuple[int, ...]
    target_skips: tuple[tuple[int, str], ...]
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rule asks of a version, and what its queue rows are ordered by."""

    likeness: Likeness
    popularity: int
    released: datetime | None
    failures: Mapping[int, list[FailedBuild]] = field(default_factory=dict)


def lock(connection: Connection, version_ids: Collection[int]) -> None:
    """Take turns with every other writer of these versions' queue rows."""
    connection.execute(statement("queue", "lock"), {"version_ids": sorted(version_ids)})


def rows(connection: Connection, version_ids: Collection[int]) -> list[Row]:
    """The queue's rows of these versions. To be read before their facts."""
    return [Row(*row) for row in _select(connection, "rows", version_ids)]


def delete(connection: Connection, rows: Collection[Row]) -> None:
    """Delete these rows, as far as nobody claimed them meanwhile."""
    if rows:
        connection.execute(statement("queue", "delete"), _columns(rows))


def insert(connection: Connection, rows: Collection[Row]) -> None:
    """Enter these rows, which were not there when their versions were locked."""
    if rows:
        connection.execute(statement("queue", "insert"), _columns(rows))


def update(connection: Connection, rows: Collection[Row]) -> None:
    """Change these rows, as far as nobody claimed them meanwhile."""
    if rows:
        connection.execute(statement("queue", "update"), _columns(rows))


def _columns(rows: Collection[Row]) -> dict[str, list[Any]]:
    return {
        "version_ids": [row.version_id for row in rows],
        "target_ids": [row.target_id for row in rows],
        "lanes": [row.lane for row in rows],
        "popularities": [row.popularity for row in rows],
        "releases": [row.released for row in rows],
        "not_befores": [row.not_before for row in rows],
        "attempts": [row.attempts for row in rows],
        "sizes": [row.size for row in rows],
        "avoids": [row.avoid for row in rows],
    }


def fall_due(connection: Connection, longest: timedelta) -> int:
    """Let retries be claimed whose time has come; return how many.

    longest: that a retry may have to wait. One that seems to wait longer need not.
    """
    return connection.execute(statement("queue", "fall_due"), {"longest": longest}).rowcount


def fold_counts(connection: Connection) -> None:
    """Keep the queue's figures short. Not by two at once."""
    connection.execute(statement("queue", "fold_counts"))


def judge_again(connection: Connection, version_ids: Iterable[int]) -> None:
    """Have these versions judged again soon, by the keeper: for many, and from anywhere."""
    parameters = {"version_ids": list(version_ids)}
    connection.execute(statement("queue", "judge_again"), parameters)


def judge_siblings(connection: Connection, package_ids: Iterable[int]) -> None:
    """Have packages' versions judged again if which of them are built depends on the others."""
    parameters = {"package_ids": list(package_ids)}
    connection.execute(statement("queue", "judge_siblings"), parameters)


def offer(connection: Connection, package_ids: Iterable[int]) -> None:
    """Give another chance to builds that failed for want of these packages: there is news."""
    parameters = {"package_ids": sorted(package_ids)}
    found = connection.execute(statement("queue", "awaited"), parameters).scalars().all()
    if found:
        judge_again(connection, found)


def judge_all_again(connection: Connection) -> None:
    """Have every version judged again by the keeper, newest first: targets changed."""
    connection.execute(statement("queue", "forget_ranges"))
    connection.execute(statement("queue", "judge_all_again"))


def take_to_judge(connection: Connection, batch: int) -> list[int]:
    """The next versions to judge again, at most *batch*; they count as judged on commit."""
    parameters = {"batch": batch}
    named = connection.execute(statement("queue", "take_named"), parameters).scalars().all()
    if named:
        return list(named)
    wide = connection.execute(statement("queue", "range")).mappings().one_or_none()
    if wide is None:
        return []
    found = connection.execute(statement("queue", "wanted_in_range"), {**parameters, **wide})
    version_ids = list(found.scalars())
    if len(version_ids) < batch:
        connection.execute(statement("queue", "end_range"), dict(wide))
    else:
        left = {**wide, "left": version_ids[-1] - 1}
        connection.execute(statement("queue", "shrink_range"), left)
    return version_ids


def request_pages(connection: Connection, version_ids: Collection[int], reason: str) -> None:
    """Ask the publisher for the pages of these versions' packages."""
    parameters = {"version_ids": list(version_ids), "reason": reason}
    connection.execute(statement("queue", "page_jobs"), parameters)


def load_targets(connection: Connection) -> tuple[Target, ...]:
    """All targets, active or not."""
    rows = connection.execute(statement("queue", "targets")).all()
    sets = tag_sets.known(connection)
    sets.load(connection, (row.tag_set_id for row in rows))
    return tuple(
        Target(
            row.target_id,
            row.name,
            row.python,
            row.rank,
            row.active,
            sets.known[row.tag_set_id],
            row.size,
        )
        for row in rows
    )


def facts(connection: Connection, ids: Collection[int]) -> dict[int, Facts]:
    """What the rule asks of these versions, by version_id."""
    rows = _select(connection, "facts", ids)
    failed = [row.version_id for row in rows if row.has_failed]
    failures = _failures(connection, failed)
    numbers = {number for row in rows for number in row.file_tag_set_ids}
    numbers |= {row.pypi_tag_set_id for row in rows if row.pypi_tag_set_id is not None}
    tag_sets.known(connection).load(connection, numbers)
    return {
        row.version_id: Facts(
            _likeness(row), row.popularity, row.released, failures.get(row.version_id, {})
        )
        for row in rows
    }


def version_of(facts: Facts, sets: TagSets) -> Version:
    """What the rule is asked."""
    like = facts.likeness
    pypi = () if like.pypi_tag_set_id is None else (like.pypi_tag_set_id,)
    return Version(
        lane=like.lane,
        skip=like.skip,
        target_skips=dict(like.target_skips),
        yanked=like.yanked,
        is_prerelease=like.is_prerelease,
        prereleases=like.prereleases,
        keep=like.keep,
        newer=like.newer,
        has_sdist=like.has_sdist,
        requires_python=like.requires_python,
        policy=like.policy,
        pypi_tags=sets.union(pypi),
        file_tags=sets.union(like.file_tag_set_ids),
        failures=facts.failures,
        sizes=dict(like.sizes),
        building=frozenset(like.building),
    )


def _likeness(row: Any) -> Likeness:
    return Likeness(
        lane=row.lane,
        skip=row.skip,
        yanked=row.yanked,
        prereleases=row.prereleases,
        is_prerelease=row.version is not None and _is_prerelease(row.version),
        keep=row.keep,
        newer=row.newer,
        policy=row.policy,
        requires_python=row.requires_python,
        pypi_tag_set_id=row.pypi_tag_set_id,
        has_sdist=row.has_sdist,
        file_tag_set_ids=tuple(row.file_tag_set_ids),
        building=tuple(row.building),
        target_skips=_by_target(row.target_skips),
        sizes=_by_target(row.sizes),
    )


def _by_target(found: dict[str, Any] | None) -> tuple[tuple[int, Any], ...]:
    """JSON knows only texts as keys."""
    return tuple((int(target_id), value) for target_id, value in (found or {}).items())


@lru_cache(10_000)
def _is_prerelease(version: str) -> bool:
    try:
        return Pep440(version).is_prerelease
    except InvalidVersion:
        return False


def _failures(
    connection: Connection, ids: Collection[int]
) -> dict[int, dict[int, list[FailedBuild]]]:
    found: dict[int, dict[int, list[FailedBuild]]] = defaultdict(lambda: defaultdict(list))
    for row in _select(connection, "failures", ids) if ids else ():
        failure = FailedBuild(
            row.build_id, FailureClass(row.kind), row.ended, row.slave_id, row.size
        )
        found[row.version_id][row.target_id].append(failure)
    return found


def _select(connection: Connection, name: str, ids: Collection[int]) -> list[Any]:
    return list(connection.execute(statement("queue", name), {"version_ids": list(ids)}))
