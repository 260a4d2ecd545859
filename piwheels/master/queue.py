"""Keeping the table ``queue`` equal to its rule, for what changed."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from sqlalchemy import Connection

from piwheels.database import queue, tag_sets
from piwheels.database.queue import Facts, Likeness, Row
from piwheels.database.tag_sets import TagSets
from piwheels.model.queue import State, Verdict
from piwheels.model.targets import Target
from piwheels.rules.queue import verdicts

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # the release time of what does not say


def refresh(connection: Connection, version_ids: Collection[int]) -> None:
    """Bring these versions' rows in line with the rule, within the caller's transaction.

    To be called once by every transaction that changes what the rule asks (see
    model.queue.Version): after all its changes, before it claims anything. The pages of the
    packages show the same verdicts and are asked for.
    """
    if not version_ids:
        return
    queue.lock(connection, version_ids)
    present = {row.key: row for row in queue.rows(connection, version_ids)}
    wanted = {
        row.key: row
        for version_id, (facts, found) in _judge(connection, version_ids).items()
        for target_id, verdict in found.items()
        if verdict.state is State.WAITING
        for row in [_row(version_id, target_id, facts, verdict)]
    }
    queue.delete(connection, [present[key] for key in present.keys() - wanted.keys()])
    queue.insert(connection, [wanted[key] for key in sorted(wanted.keys() - present.keys())])
    queue.update(
        connection,
        [wanted[key] for key in wanted.keys() & present.keys() if wanted[key] != present[key]],
    )
    queue.request_pages(connection, version_ids, "queue")


def standing(connection: Connection, version_ids: Collection[int]) -> dict[int, dict[int, Verdict]]:
    """The rule's verdicts on these versions, by version_id and target_id."""
    judged = _judge(connection, version_ids)
    return {version_id: dict(found) for version_id, (_, found) in judged.items()}


def _judge(
    connection: Connection, version_ids: Collection[int]
) -> dict[int, tuple[Facts, Mapping[int, Verdict]]]:
    targets = queue.load_targets(connection)
    facts = queue.facts(connection, version_ids)
    sets = tag_sets.known(connection)
    return {
        version_id: (
            each,
            verdicts(queue.version_of(each, sets), targets)
            if each.failures
            else _of_all_like(each.likeness, targets, sets),
        )
        for version_id, each in facts.items()
    }


@lru_cache(20_000)  # of millions of versions, few differ in what the rule asks
def _of_all_like(
    likeness: Likeness, targets: tuple[Target, ...], sets: TagSets
) -> Mapping[int, Verdict]:
    return verdicts(queue.version_of(Facts(likeness, 0, None), sets), targets)


def _row(version_id: int, target_id: int, facts: Facts, verdict: Verdict) -> Row:
    return Row(
        version_id=version_id,
        target_id=target_id,
        lane=int(verdict.lane),
        popularity=facts.popularity,
        released=facts.released or LONG_AGO,
        not_before=max(verdict.not_before, LONG_AGO),
        attempts=verdict.attempts,
        size=verdict.size,
        avoid=verdict.avoid,
    )
