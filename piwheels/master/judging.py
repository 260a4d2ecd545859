"""Bringing the queue in line with what an operator changed: at once, or soon where it is much."""

from collections.abc import Collection

from sqlalchemy import Connection

from piwheels.database.queue import judge_again
from piwheels.master.queue import refresh

MOST_AT_ONCE = 200  # versions; whoever asks waits for these, and so may claims of them


def bring_in_line(connection: Connection, version_ids: Collection[int]) -> None:
    """Bring these versions' rows in line, within this transaction or soon after it."""
    if len(version_ids) > MOST_AT_ONCE:
        judge_again(connection, version_ids)
    else:
        refresh(connection, version_ids)
