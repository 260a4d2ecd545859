"""Making packages and versions agree with PyPI, many projects at once.

Whoever changes versions here brings the queue in line at the end of the same transaction; that
also asks for the pages.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from piwheels.database import queue, tag_sets
from piwheels.database.statements import statement
from piwheels.database.tag_sets import TagSets
from piwheels.model.builds import Sdist
from piwheels.model.following import Follow, Project
from piwheels.model.projects import Changes, ProjectPage, ProjectVersion, Status


@dataclass(slots=True)
class Known:
    """The versions of a package on record; unwanted: those of them that nobody wants."""

    versions: dict[str, ProjectVersion] = field(default_factory=dict)
    unwanted: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Update:
    """What becomes of a package. lanes: of versions that nobody wants yet.

    project: as it is to be on record. until_read: until its page is read again.
    """

    project: Project
    changes: Changes = field(default_factory=Changes)
    lanes: Mapping[str, int] = field(default_factory=dict)
    until_read: timedelta = timedelta(0)
    is_news: bool = False


def enter(
    connection: Connection,
    pages: Collection[ProjectPage],
    follow: Follow = Follow.NOT,
    followed: datetime | None = None,
    policy: str = "all",
) -> int:
    """Make packages known that are not yet; return how many that were."""
    parameters = {
        "names": [page.package for page in pages],
        "display_names": [page.display_name for page in pages],
        "follows": [follow.value] * len(pages),
        "since": [followed] * len(pages),
        "policies": [policy] * len(pages),
    }
    return connection.execute(statement("projects", "enter"), parameters).rowcount


def hold(connection: Connection, names: Iterable[str]) -> dict[str, Project]:
    """Those of these packages that are known, by name, held until the transaction ends."""
    rows = connection.execute(statement("projects", "hold"), {"names": list(names)}).mappings()
    return {row["name"]: _project(row) for row in rows}


def known(connection: Connection, package_ids: Collection[int]) -> dict[int, Known]:
    """What is on record of packages that are held, by package_id."""
    found: dict[int, Known] = defaultdict(Known)
    if not package_ids:
        return found
    parameters = {"package_ids": list(package_ids)}
    rows = connection.execute(statement("projects", "known"), parameters).all()
    sets = tag_sets.known(connection)
    sets.load(connection, {row.pypi_tag_set_id for row in rows} - {None})
    for row in rows:
        package = found[row.package_id]
        package.versions[row.version] = _version(row, sets)
        if row.lane is None:
            package.unwanted.add(row.version)
    return found


def apply(connection: Connection, updates: Sequence[Update]) -> set[int]:
    """Write down what became of packages that are held; return the ids of changed versions."""
    changed = _put_versions(connection, updates)
    changed |= _want(connection, list(_unchanged(updates)))
    _update(connection, updates)
    put_names(
        connection,
        [
            (name, each.project.package_id)
            for each in updates
            if each.is_news
            for name in {each.project.name, each.project.display_name}
        ],
    )
    news = [each.project.package_id for each in updates if each.changes.versions]
    if news:
        queue.judge_siblings(connection, news)
        queue.offer(connection, news)
    return changed


def want(connection: Connection, package_id: int, lanes: Mapping[str, int]) -> set[int]:
    """Want versions that nobody wants yet; return the ids of those."""
    return _want(connection, [(package_id, *each) for each in lanes.items()])


def put_names(connection: Connection, names: Collection[tuple[str, int]]) -> None:
    """Let these names lead to these packages, unless they lead to others already."""
    if names:
        parameters = {
            "names": [name for name, _ in names],
            "package_ids": [package_id for _, package_id in names],
        }
        connection.execute(statement("projects", "put_names"), parameters)


def lease_ids(connection: Connection, package_ids: Collection[int]) -> list[int]:
    """The leases of these packages' versions, locked. To be asked first in a transaction."""
    return _ids(connection, "leases", package_ids)


def leave_queue(connection: Connection, package_ids: Collection[int]) -> None:
    """Let no version of these packages wait, which are not to be built any more.

    Their versions must be held. Claims that came before have their leases after this.
    """
    parameters = {"package_ids": list(package_ids)}
    connection.execute(statement("projects", "leave_queue"), parameters)


def wanted(connection: Connection, package_ids: Collection[int]) -> set[int]:
    """The versions of these packages that anybody wants."""
    return set(_ids(connection, "wanted", package_ids))


def request_pages(connection: Connection, package_ids: Collection[int], reason: str) -> None:
    """Ask the publisher for the pages of these packages."""
    parameters = {"package_ids": list(package_ids), "reason": reason}
    connection.execute(statement("projects", "request_pages"), parameters)


def half_forgotten(connection: Connection, names: Iterable[str]) -> list[int]:
    """Those of these packages that are deleted, but not forgotten yet."""
    parameters = {"names": list(names)}
    return list(connection.execute(statement("projects", "half_forgotten"), parameters).scalars())


def forget(connection: Connection, package_ids: Collection[int], grace: float) -> None:
    """Forget all that was known of deleted packages but their names and the operator's wishes.

    Their files leave the disk after *grace* seconds.
    """
    key = {"package_ids": list(package_ids)}
    connection.execute(statement("projects", "doom_files"), {**key, "grace": grace})
    for part in ("versions", "skips", "costs", "names", "package"):
        connection.execute(statement("projects", f"forget_{part}"), key)


def due_files(connection: Connection, batch: int) -> list[tuple[str, str]]:
    """Package and name of files that are to leave the disk now; forgotten on commit."""
    rows = connection.execute(statement("projects", "due_files"), {"batch": batch})
    return [(row.package, row.name) for row in rows if not row.is_needed]


def follow(connection: Connection, package_id: int, policy: str = "") -> datetime | None:
    """Want all versions of a package, as an operator asks; None if that is no news.

    Returns since when it is followed. policy: '' for the usual one.
    """
    parameters = {"package_id": package_id, "policy": policy}
    found = connection.execute(statement("projects", "follow"), parameters).scalar_one_or_none()
    return found if isinstance(found, datetime) else None


def _ids(connection: Connection, name: str, package_ids: Collection[int]) -> list[int]:
    parameters = {"package_ids": list(package_ids)}
    return list(connection.execute(statement("projects", name), parameters).scalars())


def _project(row: Any) -> Project:
    return Project(**{**row, "status": Status(row["status"]), "follow": Follow(row["follow"])})


def _put_versions(connection: Connection, updates: Sequence[Update]) -> set[int]:
    versions = [
        (each.project.package_id, version, each.lanes.get(version.version))
        for each in updates
        for version in each.changes.versions
    ]
    if not versions:
        return set()
    numbers = tag_sets.numbers(connection, {version.tags for _, version, _ in versions})
    rows = [
        {"package_id": package_id, "lane": lane, **_row(version, numbers)}
        for package_id, version, lane in versions
    ]
    parameters = {"versions": json.dumps(rows)}
    return set(connection.execute(statement("projects", "put_versions"), parameters).scalars())


def _unchanged(updates: Sequence[Update]) -> Iterator[tuple[int, str, int]]:
    """Versions that PyPI did not change, but that somebody wants now."""
    for each in updates:
        changed = {version.version for version in each.changes.versions}
        for version, lane in each.lanes.items():
            if version not in changed:
                yield each.project.package_id, version, lane


def _want(connection: Connection, wishes: Sequence[tuple[int, str, int]]) -> set[int]:
    if not wishes:
        return set()
    parameters = {
        "package_ids": [package_id for package_id, _, _ in wishes],
        "versions": [version for _, version, _ in wishes],
        "lanes": [int(lane) for _, _, lane in wishes],
    }
    return set(connection.execute(statement("projects", "want"), parameters).scalars())


def _update(connection: Connection, updates: Sequence[Update]) -> None:
    projects = [each.project for each in updates]
    parameters = {
        "package_ids": [project.package_id for project in projects],
        "display_names": [project.display_name for project in projects],
        "statuses": [project.status.value for project in projects],
        "status_reasons": [project.status_reason for project in projects],
        "serials": [project.serial for project in projects],
        "follows": [project.follow.value for project in projects],
        "since": [project.followed for project in projects],
        "seconds": [each.until_read.total_seconds() for each in updates],
        "is_news": [each.is_news for each in updates],
    }
    connection.execute(statement("projects", "update"), parameters)


def _row(version: ProjectVersion, numbers: Mapping[frozenset[str], int]) -> dict[str, Any]:
    sdist = version.sdist or Sdist("", "", "", None)
    return {
        "version": version.version,
        "released": version.released and version.released.isoformat(),
        "requires_python": version.requires_python,
        "yanked": version.yanked,
        "sdist_name": sdist.filename,
        "sdist_url": sdist.url,
        "sdist_sha256": sdist.sha256,
        "sdist_size": sdist.size,
        "pypi_tag_set_id": numbers.get(version.tags),
    }


def _version(row: Row[Any], sets: TagSets) -> ProjectVersion:
    sdist = Sdist(row.sdist_name, row.sdist_url, row.sdist_sha256, row.sdist_size)
    number = row.pypi_tag_set_id
    return ProjectVersion(
        version=row.version,
        released=row.released,
        requires_python=row.requires_python,
        yanked=row.yanked,
        sdist=sdist if row.sdist_name else None,
        tags=frozenset() if number is None else sets.known[number],
    )
