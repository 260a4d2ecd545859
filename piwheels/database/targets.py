"""Targets, as operators see and change them.

What concerns the queue is judged again by the keeper; the functions here only change targets.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from piwheels.database import tag_sets
from piwheels.database.statements import statement
from piwheels.model.targets import TargetOffer


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target's row, held until the transaction ends."""

    target_id: int
    name: str
    label: str
    rank: int
    active: bool


@dataclass(frozen=True, slots=True)
class Length:
    """How much waits for a target in a lane: now, or for its time."""

    target_id: int
    lane: int
    ready: bool
    waiting: int


def all_targets(connection: Connection) -> list[dict[str, Any]]:
    """The targets by rank: target_id, name, label, python, rank, is_active, slaves, largest."""
    return [dict(row) for row in connection.execute(statement("targets", "list")).mappings()]


def lengths(connection: Connection) -> list[Length]:
    """How long the queues are."""
    rows = connection.execute(statement("targets", "lengths"))
    return [Length(row.target_id, row.lane, row.ready, int(row.waiting)) for row in rows]


def names(connection: Connection) -> list[str]:
    """The names of all targets."""
    return list(connection.execute(statement("targets", "names")).scalars())


def lock(connection: Connection, names: Collection[str]) -> list[TargetRow]:
    """The targets of these names, as far as there are any."""
    rows = connection.execute(statement("targets", "lock"), {"names": list(names)})
    return [TargetRow(**row._mapping) for row in rows]


def add(connection: Connection, offer: TargetOffer, rank: int, active: bool) -> bool:
    """Enter a target; whether there was none of its name."""
    parameters = {
        "name": offer.name,
        "label": offer.label,
        "python": offer.python,
        "rank": rank,
        "active": active,
        "tag_set_id": tag_sets.number(connection, offer.tags),
    }
    return connection.execute(statement("targets", "add"), parameters).rowcount == 1


def change(
    connection: Connection,
    target_ids: Collection[int],
    active: bool | None,
    rank: int | None,
    label: str | None,
) -> set[str]:
    """Change what is not None; return the names of those targets that were not so already."""
    parameters = {
        "target_ids": list(target_ids),
        "active": active,
        "rank": rank,
        "label": label,
    }
    return set(connection.execute(statement("targets", "change"), parameters).scalars())


def skip(
    connection: Connection, target_id: int, package_id: int, version_id: int | None, reason: str
) -> bool:
    """Skip a package, or one version of it, on a target; '' does so no more. Whether it is news.

    The rule asks for skips: judge the versions again.
    """
    parameters = {
        "target_id": target_id,
        "package_id": package_id,
        "version_id": version_id,
        "reason": reason,
    }
    name = "skip" if reason else "unskip"
    return connection.execute(statement("targets", name), parameters).rowcount > 0
