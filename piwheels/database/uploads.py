"""The table ``uploads``: the files that leases are to deliver, and what became of each.

The dispatcher enters what BUILT told of; the receiver enters placed or refused, never both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from piwheels.database.statements import statement


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A file that a lease is to deliver, and what the lease is for.

    tags: of the target. size: bytes. placed: what was put on record when it was placed in
    the web tree, or None. refused: the reason, or ''.
    """

    build_id: int
    package: str
    version: str
    tags: frozenset[str]
    size: int
    sha256: str
    placed: Mapping[str, Any] | None
    refused: str


def expected(connection: Connection, token: bytes, name: str) -> ExpectedFile | None:
    """The file *name* that the lease with *token* is to deliver; None if there is none."""
    found = connection.execute(statement("uploads", "expected"), {"token": token, "name": name})
    row = found.mappings().one_or_none()
    return None if row is None else ExpectedFile(**{**row, "tags": frozenset(row["tags"])})


def record_placed(
    connection: Connection, build_id: int, name: str, placed: Mapping[str, Any]
) -> bool:
    """Enter that a file is in the web tree; whether it was still wanted there.

    placed: of a wheel {name, size, sha256, metadata_sha256, tags, requires_python, summary},
    where name is the one it was published under; of a log {log: public path}.
    """
    values = {"build_id": build_id, "name": name, "placed": json.dumps(placed)}
    return connection.execute(statement("uploads", "record_placed"), values).rowcount == 1


def record_refused(connection: Connection, build_id: int, name: str, reason: str) -> bool:
    """Enter why a file is refused; False if it is placed already, or its lease is gone."""
    values = {"build_id": build_id, "name": name, "reason": reason}
    return connection.execute(statement("uploads", "record_refused"), values).rowcount == 1


def live_build_ids(connection: Connection) -> frozenset[int]:
    """The numbers of the builds that slaves hold leases for."""
    return frozenset(connection.execute(statement("uploads", "live_build_ids")).scalars())
