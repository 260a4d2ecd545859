"""Keeping the table ``queue`` equal to its rule, for what changed."""

from collections.abc import Collection
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from piwheels.database import queue
from piwheels.database.connection import transaction
from piwheels.database.queue import Facts, Row
from piwheels.model.queue import State, Verdict
from piwheels.rules.queue import verdicts

BATCH = 1_000  # versions of a bulk change in one transaction: claims never wait for more
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # the release time of what does not say


def refresh(connection: Connection, version_ids: Collection[int]) -> None:
    """Bring these versions' rows in line with the rule, within the caller's transaction.

    To be called once, at its end, by every transaction that changes what the rule asks (see
    model.queue.Version). The pages of the packages show the same verdicts and are asked for.
    """
    if not version_ids:
        return
    queue.lock(connection, version_ids)
    targets = queue.load_targets(connection)
    wanted = {
        row.key: row
        for version_id, facts in queue.facts(connection, version_ids).items()
        for target_id, verdict in verdicts(facts.version, targets).items()
        if verdict.state is State.WAITING
        for row in [_row(version_id, target_id, facts, verdict)]
    }
    present = {row.key: row for row in queue.rows(connection, version_ids)}
    queue.replace(
        connection,
        gone=[present[key] for key in present.keys() - wanted.keys()],
        put=[row for key, row in wanted.items() if present.get(key) != row],
    )
    queue.request_pages(connection, version_ids, "queue")


def refresh_all(engine: Engine) -> None:
    """Do it for every version that anybody asked for, in short transactions.

    Where a target came, went or changed. Claims go on meanwhile.
    """
    after = 0
    while True:
        with transaction(engine) as connection:
            batch = queue.wanted_versions(connection, after, BATCH)
            refresh(connection, batch)
        if not batch:
            return
        after = batch[-1]


def standing(connection: Connection, version_ids: Collection[int]) -> dict[int, dict[int, Verdict]]:
    """The rule's verdicts on these versions, by version_id and target_id."""
    targets = queue.load_targets(connection)
    return {
        version_id: verdicts(facts.version, targets)
        for version_id, facts in queue.facts(connection, version_ids).items()
    }


def _row(version_id: int, target_id: int, facts: Facts, verdict: Verdict) -> Row:
    assert facts.version.lane is not None  # else the verdict were UNWANTED
    return Row(
        version_id=version_id,
        target_id=target_id,
        lane=facts.version.lane,
        popularity=facts.popularity,
        released=facts.released or LONG_AGO,
        not_before=max(verdict.not_before, LONG_AGO),
        attempts=verdict.attempts,
    )
