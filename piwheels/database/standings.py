"""What there is to know of one version, for those who ask why it stands as it does."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from piwheels.database.statements import statement
from piwheels.model.slaves import Slave
from piwheels.model.standings import Attempt, KnownVersion, Place, Running, Wheel


@dataclass(frozen=True, slots=True)
class FoundPackage:
    """A package, by any of its spellings. skip: a reason, or ''."""

    package_id: int
    name: str
    skip: str


@dataclass(frozen=True, slots=True)
class TargetSkip:
    """A skip on one target: of the one version, or of the whole package."""

    target_id: int
    is_of_version: bool
    reason: str


def now(connection: Connection) -> datetime:
    """The time by the database's clock, which all times of the farm are by."""
    moment: datetime = connection.execute(statement("standings", "now")).scalar_one()
    return moment


def find_package(
    connection: Connection, name: str, spellings: Collection[str]
) -> FoundPackage | None:
    """The package of this normalized name, or to which one of *spellings* leads."""
    parameters = {"name": name, "spellings": list(spellings)}
    row = connection.execute(statement("standings", "package"), parameters).one_or_none()
    return None if row is None else FoundPackage(**row._mapping)


def near_names(connection: Connection, name: str, slips: Collection[str]) -> list[str]:
    """Names of packages that are among *slips* or beside *name* in the dictionary."""
    parameters = {"name": name, "slips": list(slips)}
    return list(connection.execute(statement("standings", "near_names"), parameters).scalars())


def versions(connection: Connection, package_id: int) -> list[KnownVersion]:
    """All versions of a package, in no order."""
    rows = connection.execute(statement("standings", "versions"), {"package_id": package_id})
    return [KnownVersion(**row._mapping) for row in rows]


def target_skips(connection: Connection, package_id: int, version_id: int) -> list[TargetSkip]:
    """What is skipped on single targets, of this version or of its package."""
    parameters = {"package_id": package_id, "version_id": version_id}
    rows = connection.execute(statement("standings", "target_skips"), parameters)
    return [TargetSkip(**row._mapping) for row in rows]


def attempts(connection: Connection, version_id: int) -> dict[int, Attempt]:
    """The newest build of a version on each target, by target_id."""
    rows = connection.execute(statement("standings", "attempts"), {"version_id": version_id})
    found = [dict(row) for row in rows.mappings()]
    return {row.pop("target_id"): Attempt(**row) for row in found}


def wheels(connection: Connection, version_id: int) -> list[Wheel]:
    """The published files of a version, newest first."""
    rows = connection.execute(statement("standings", "wheels"), {"version_id": version_id})
    return [Wheel(row.filename, row.published, frozenset(row.tags)) for row in rows]


def running(connection: Connection, version_id: int) -> dict[int, Running]:
    """The builds of a version that run now, by target_id."""
    rows = connection.execute(statement("standings", "running"), {"version_id": version_id})
    found = [dict(row) for row in rows.mappings()]
    return {row.pop("target_id"): Running(**row) for row in found}


def places(connection: Connection, version_id: int, largest: int, most: int) -> dict[int, Place]:
    """A version's places in the queues it waits in, by target_id.

    largest: the largest size that any row can have. most: so many rows are counted at most.
    """
    rows = connection.execute(statement("standings", "places"), {"version_id": version_id})
    found = {}
    for row in rows.mappings().all():
        parameters = {
            "version_id": version_id,
            "target_id": row["target_id"],
            "lane": row["lane"],
            "largest": largest,
            "most": most,
        }
        before = connection.execute(statement("standings", "lanes_before"), parameters)
        ahead = int(connection.execute(statement("standings", "ahead"), parameters).scalar_one())
        found[row["target_id"]] = Place(
            row["lane"],
            row["size"],
            row["not_before"],
            ahead=max(0, int(before.scalar_one())) + ahead,
            is_more=ahead >= most,
        )
    return found


def slaves(connection: Connection) -> list[Slave]:
    """The slaves that are present."""
    rows = connection.execute(statement("standings", "slaves"))
    return [Slave(**row._mapping) for row in rows]


def paces(connection: Connection) -> dict[int, float]:
    """How many seconds a build took lately, by target_id; where there was none, none."""
    rows = connection.execute(statement("standings", "paces"))
    return {row.target_id: float(row.seconds) for row in rows}
