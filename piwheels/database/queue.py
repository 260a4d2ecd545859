"""The table ``queue``, and what its rule asks of the other tables."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from piwheels.database.statements import statement
from piwheels.model.builds import FailureClass
from piwheels.model.queue import FailedBuild, Version
from piwheels.model.targets import Target

CALM = 2.0  # seconds between two writings of a page of the whole site


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

    @property
    def key(self) -> tuple[int, int]:
        """What the row is about."""
        return self.version_id, self.target_id


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rule asks of a version, and what its queue rows are ordered by."""

    version: Version
    popularity: int
    released: datetime | None


def lock(connection: Connection, version_ids: Collection[int]) -> None:
    """Take turns with every other writer of these versions' queue rows."""
    connection.execute(statement("queue", "lock"), {"version_ids": sorted(version_ids)})


def rows(connection: Connection, version_ids: Collection[int]) -> list[Row]:
    """The queue's rows of these versions."""
    return [Row(**row) for row in _select(connection, "rows", version_ids)]


def replace(connection: Connection, gone: Collection[Row], put: Collection[Row]) -> None:
    """Delete and put these rows."""
    if gone:
        keys = [{"version_id": row.version_id, "target_id": row.target_id} for row in gone]
        connection.execute(statement("queue", "delete"), keys)
    if put:
        connection.execute(statement("queue", "put"), [asdict(row) for row in put])


def fell_due(connection: Connection, seconds: float) -> bool:
    """Whether the time of some retry came within the last *seconds*."""
    found = connection.execute(statement("queue", "fell_due"), {"seconds": seconds})
    return bool(found.scalar_one())


def request_pages(connection: Connection, version_ids: Collection[int], reason: str) -> None:
    """Ask the publisher for the pages of these versions' packages, and the home page."""
    parameters = {"version_ids": list(version_ids), "reason": reason}
    connection.execute(statement("queue", "page_jobs"), parameters)
    request_site_page(connection, "home")


def request_site_page(connection: Connection, page: str) -> None:
    """Ask the publisher for a page of no single package: simple, or home."""
    connection.execute(statement("queue", "site_jobs"), {"page": page, "calm": CALM})


def wanted_versions(connection: Connection, after: int, batch: int) -> list[int]:
    """The next *batch* ids, after *after*, of versions that anybody asked for."""
    found = connection.execute(
        statement("queue", "wanted_versions"), {"after": after, "batch": batch}
    )
    return list(found.scalars())


def load_targets(connection: Connection) -> list[Target]:
    """All targets, active or not."""
    rows = connection.execute(statement("queue", "targets")).mappings()
    return [Target(**{**row, "tags": frozenset(row["tags"])}) for row in rows]


def facts(connection: Connection, ids: Collection[int]) -> dict[int, Facts]:
    """What the rule asks of these versions, by version_id."""
    skips = _grouped(_select(connection, "skips", ids))
    tags = _grouped(_select(connection, "file_tags", ids))
    failures = _grouped(_select(connection, "failures", ids))
    leases = _grouped(_select(connection, "leases", ids))
    return {
        (version_id := row["version_id"]): Facts(
            Version(
                lane=row["lane"],
                skip=row["package_skip"] or row["skip"],
                target_skips={skip["target_id"]: skip["reason"] for skip in skips[version_id]},
                has_sdist=row["has_sdist"],
                requires_python=row["requires_python"],
                policy=row["policy"],
                pypi_tags=frozenset(row["pypi_tags"]),
                file_tags=frozenset(tag for file in tags[version_id] for tag in file["tags"]),
                failures=_failures_by_target(failures[version_id]),
                building=frozenset(lease["target_id"] for lease in leases[version_id]),
            ),
            row["popularity"],
            row["released"],
        )
        for row in _select(connection, "versions", ids)
    }


def _failures_by_target(rows: Iterable[Any]) -> dict[int, list[FailedBuild]]:
    found: dict[int, list[FailedBuild]] = defaultdict(list)
    for row in rows:
        failure = FailedBuild(row["build_id"], FailureClass(row["kind"]), row["ended"])
        found[row["target_id"]].append(failure)
    return found


def _select(connection: Connection, name: str, ids: Collection[int]) -> list[dict[str, Any]]:
    found = connection.execute(statement("queue", name), {"version_ids": list(ids)})
    return [dict(row) for row in found.mappings()]


def _grouped(rows: Iterable[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["version_id"]].append(row)
    return groups
