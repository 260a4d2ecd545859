"""The whole farm, now."""

from typing import Any

from sqlalchemy import Connection

from piwheels.database.statements import statement


def snapshot(connection: Connection, silence: float) -> dict[str, Any]:
    """The parts of protocol.status.Farm, as rows by name.

    silence: seconds without a sign of life after which a slave is shown as silent.
    """
    counts = connection.execute(statement("status", "counts")).mappings().one()
    lists = {
        name: [
            dict(row)
            for row in connection.execute(statement("status", name), parameters).mappings()
        ]
        for name, parameters in {
            "running": {},
            "waiting": {},
            "ended": {},
            "slaves": {"silence": silence},
        }.items()
    }
    return {**counts, **lists}
