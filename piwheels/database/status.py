"""The whole farm, now."""

from typing import Any

from sqlalchemy import Connection

from piwheels.database.statements import statement


def snapshot(connection: Connection, largest: int) -> dict[str, Any]:
    """The parts of protocol.status.Farm, as rows by name, slaves apart.

    largest: the largest size that any row of the queue can have.
    """
    counts = connection.execute(statement("status", "counts")).mappings().one()
    lists = {
        name: [
            dict(row)
            for row in connection.execute(statement("status", name), parameters).mappings()
        ]
        for name, parameters in {
            "running": {},
            "waiting": {"largest": largest},
            "ended": {},
        }.items()
    }
    return {**{name: int(count) for name, count in counts.items()}, **lists}
