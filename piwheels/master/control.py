"""Steering slaves: what operators' tools ask over the control socket.

Nothing is said to a slave from here. What is wanted of it is entered, its lease is ended where
that cannot wait, and the dispatcher tells it when it next speaks.
"""

import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from piwheels.database import slaves, standings
from piwheels.database.connection import first_line, transaction
from piwheels.database.slaves import SlaveRow
from piwheels.master.judging import bring_in_line
from piwheels.model.errors import BadMessage, PiwheelsError, Unavailable
from piwheels.protocol.control import (
    FROM_CONTROL,
    FROM_OPERATOR,
    Concerned,
    Done,
    Drain,
    Failed,
    Forgive,
    Kill,
    ListSlaves,
    Pause,
    Resume,
    Skip,
    SlaveList,
)
from piwheels.protocol.status import SlaveStatus
from piwheels.rules.slave_state import state_of, task_of
from piwheels.rules.spelling import did_you_mean
from piwheels.transport import Listener

TRIES = 3  # of a transaction that met another one

log = logging.getLogger(__name__)

Steer = Callable[[Connection, list[int], Any], set[int]]  # returns those for whom it is news


class NobodyMeant(PiwheelsError):
    """A request that names no slave, or one that was never here. The asker's fault."""


def pause(connection: Connection, slave_ids: list[int], asked: Pause) -> set[int]:
    """Give them no more work."""
    ended = end_builds(connection, slave_ids) if asked.now else set()
    return slaves.wish(connection, slave_ids, "rest") | ended


def resume(connection: Connection, slave_ids: list[int], _: Resume) -> set[int]:
    """Give them work again."""
    return slaves.wish(connection, slave_ids, "work")


def drain(connection: Connection, slave_ids: list[int], _: Drain) -> set[int]:
    """Let them leave after their builds."""
    return slaves.wish(connection, slave_ids, "leave")


def kill(connection: Connection, slave_ids: list[int], _: Kill) -> set[int]:
    """Let them leave now."""
    ended = end_builds(connection, slave_ids)
    return slaves.wish(connection, slave_ids, "leave") | ended


def skip(connection: Connection, slave_ids: list[int], asked: Skip) -> set[int]:
    """End what they build, so that it does not come back."""
    slaves.skip(connection, slave_ids, asked.reason)
    return end_builds(connection, slave_ids)


def forgive(connection: Connection, slave_ids: list[int], _: Forgive) -> set[int]:
    """End their quarantine."""
    return slaves.forgive(connection, slave_ids)


STEERING: dict[type, Steer] = {
    Pause: pause,
    Resume: resume,
    Drain: drain,
    Kill: kill,
    Skip: skip,
    Forgive: forgive,
}


def end_builds(connection: Connection, slave_ids: list[int]) -> set[int]:
    """Take what they build from them; others may build it. Return those who built anything."""
    ended = slaves.end_builds(connection, slave_ids)
    bring_in_line(connection, set().union(*ended.values()))
    return set(ended)


class Control:
    """Answers operators' tools on *address*."""

    def __init__(self, engine: Engine, address: str) -> None:
        self.engine = engine
        self.listener = Listener(address)
        self.address = self.listener.address

    def answer_all(self) -> None:
        """Answer what was asked meanwhile."""
        while (heard := self.listener.hear()) is not None:
            peer, frame = heard
            try:
                request = FROM_OPERATOR.decode(frame)
            except BadMessage as error:
                log.warning("dropped a message that is none: %s", error)
                continue
            self.listener.answer(peer, FROM_CONTROL.encode(self.answer(request)))

    def answer(self, request: object) -> Done | SlaveList | Failed:
        """Do what is asked, and say how it went; never raises."""
        try:
            answer = self._do(request)
        except Unavailable as error:
            log.warning("%s", error)
            return Failed("the database is away", "try again in a minute")
        except PiwheelsError as error:
            reason, _, hint = str(error).partition(": ")
            return Failed(reason, hint)
        except DBAPIError as error:
            log.error("cannot do %s: %s", request, first_line(error))
            return Failed("the status service could not do this", "see the log of piw-master")
        if not isinstance(request, ListSlaves):
            log.info("%s: %s", request, answer)
        return answer

    def _do(self, request: Any) -> Done | SlaveList:
        """Do it; again if it met another transaction. Raise PiwheelsError, DBAPIError."""
        do = _list if isinstance(request, ListSlaves) else _steer
        for _ in range(TRIES - 1):
            with suppress(OperationalError), transaction(self.engine) as connection:
                return do(connection, request)
        with transaction(self.engine) as connection:
            return do(connection, request)

    def close(self) -> None:
        """Hear nobody any more; answers not yet sent have a second to leave."""
        self.listener.close(linger_ms=1000)


def _list(connection: Connection, asked: ListSlaves) -> SlaveList:
    rows = _named(connection, asked.slaves) if asked.slaves else slaves.slaves(connection)
    now = standings.now(connection)
    return SlaveList(tuple(status_of(row, now) for row in rows))


def status_of(row: SlaveRow, now: datetime) -> SlaveStatus:
    """A slave as monitors and tools are told of it."""
    return SlaveStatus(
        label=row.slave.label,
        target=row.target,
        state=state_of(row.slave, now),
        task=task_of(row.slave, now),
        last_seen=row.slave.last_seen,
        memory=row.memory,
    )


def _steer(connection: Connection, asked: Any) -> Done:
    """Raise NobodyMeant."""
    if asked.everyone:
        rows = [row for row in slaves.slaves(connection) if row.slave.present]
    else:
        rows = _named(connection, asked.slaves)
    numbers = [row.slave.slave_id for row in rows]
    news = STEERING[type(asked)](connection, numbers, asked)
    return Done(
        tuple(
            Concerned(row.slave.label, row.slave.slave_id in news, row.slave.build) for row in rows
        )
    )


def _named(connection: Connection, labels: Collection[str]) -> list[SlaveRow]:
    """The slaves of these labels. Raise NobodyMeant if one was never here, or none is named."""
    if not labels:
        raise NobodyMeant("no slave is named: name some, or say that all are meant")
    rows = slaves.slaves(connection, labels)
    found = {row.slave.label for row in rows}
    for label in labels:
        if label not in found:
            hint = did_you_mean(label, slaves.labels(connection)) or "see piw-slaves list"
            raise NobodyMeant(f"there is no slave {label}: {hint}")
    return rows
