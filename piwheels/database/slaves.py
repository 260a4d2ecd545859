"""Slaves, as operators see and steer them.

The dispatcher follows: it reads a slave's wish with each question for work, and a slave whose
lease is gone hears so when it next speaks of its build.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from piwheels.database.statements import statement
from piwheels.model.slaves import Slave


@dataclass(frozen=True, slots=True)
class SlaveRow:
    """A slave and the name of its target. memory: bytes in all."""

    slave: Slave
    target: str
    memory: int


def slaves(connection: Connection, labels: Collection[str] | None = None) -> list[SlaveRow]:
    """The slaves of these labels, or all; present ones first, by label."""
    parameters = {"labels": None if labels is None else list(labels)}
    found = [
        dict(row)
        for row in connection.execute(statement("slaves", "slaves"), parameters).mappings()
    ]
    return [
        SlaveRow(target=row.pop("target"), memory=row.pop("memory"), slave=Slave(**row))
        for row in found
    ]


def labels(connection: Connection) -> list[str]:
    """The labels of all slaves that ever were."""
    return list(connection.execute(statement("slaves", "labels")).scalars())


def wish(connection: Connection, slave_ids: Collection[int], what: str) -> set[int]:
    """Let slaves work, rest or leave; return those for whom that is news."""
    parameters = {"slave_ids": list(slave_ids), "wish": what}
    return set(connection.execute(statement("slaves", "wish"), parameters).scalars())


def forgive(connection: Connection, slave_ids: Collection[int]) -> set[int]:
    """End quarantines and forget what led to them; return those who had any."""
    parameters = {"slave_ids": list(slave_ids)}
    return set(connection.execute(statement("slaves", "forgive"), parameters).scalars())


def skip(connection: Connection, slave_ids: Collection[int], reason: str) -> None:
    """Skip what these slaves build, on their targets. To be followed by end_builds."""
    parameters = {"slave_ids": list(slave_ids), "reason": reason}
    connection.execute(statement("slaves", "skip"), parameters)


def end_builds(connection: Connection, slave_ids: Collection[int]) -> dict[int, set[int]]:
    """End what these slaves build; what is only being delivered goes on.

    Return the versions by slave. They must be refreshed.
    """
    ended: dict[int, set[int]] = {}
    rows = connection.execute(statement("slaves", "end_builds"), {"slave_ids": list(slave_ids)})
    for row in rows:
        ended.setdefault(row.slave_id, set()).add(row.version_id)
    return ended
