"""The status service: tells monitors how the farm is, and takes what operators want of slaves.

Two sockets, one thread: the farm is told twice a second, or less often where that takes long;
requests are answered as they come.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

from piwheels.database import slaves, standings, status, tracking
from piwheels.database.connection import transaction
from piwheels.database.tracking import Progress
from piwheels.master.control import Control, status_of
from piwheels.model.errors import Unavailable
from piwheels.protocol.status import (
    FROM_STATUS,
    Ended,
    Farm,
    Following,
    Running,
    Waiting,
)
from piwheels.rules.resources import LARGEST_SIZE
from piwheels.transport import Broadcaster, Waiter

log = logging.getLogger(__name__)

PERIOD = 0.5  # seconds
MOST_PROJECTS = 10_000  # still to be read: more need not be counted
SHARE = 10  # the farm is told so rarely that it takes one part in so many of the time,
LONGEST = 5.0  # but not more rarely than that


class Status:
    """The service. address: where the farm is told; control_address: where requests are taken."""

    def __init__(self, engine: Engine, address: str, control_address: str) -> None:
        # One snapshot for all queries: a build is running or has ended, never both or neither.
        self.engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self.broadcaster = Broadcaster(address)
        self.control = Control(engine, control_address)

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        waiter = Waiter(self.control.listener)
        while not is_stopping():
            began = time.monotonic()
            self._tell()
            took = time.monotonic() - began
            due = began + min(max(PERIOD, SHARE * took), LONGEST)
            while not is_stopping() and (left := due - time.monotonic()) > 0:
                beat()
                if waiter.wait(min(left, PERIOD)):
                    self.control.answer_all()
        self.broadcaster.close()
        self.control.close()

    def _tell(self) -> None:
        try:
            self.broadcaster.say(FROM_STATUS.encode(self.farm()))
        except Unavailable as error:
            log.warning("%s; trying again", error)

    def farm(self) -> Farm:
        """The farm as it is now."""
        with transaction(self.engine) as connection:
            now = standings.now(connection)
            rows = status.snapshot(connection, LARGEST_SIZE)
            found = slaves.slaves(connection)
            progress = tracking.progress(connection)
            projects = tracking.left(connection, MOST_PROJECTS)
        return Farm(
            moment=now,
            queued=rows["queued"],
            later=rows["later"],
            pages=rows["pages"],
            waiting=tuple(Waiting(**row) for row in rows["waiting"]),
            running=tuple(Running(**row) for row in rows["running"]),
            ended=tuple(_ended(row) for row in rows["ended"]),
            slaves=tuple(status_of(row, now) for row in found),
            following=_following(progress, projects),
        )


def _ended(row: dict[str, Any]) -> Ended:
    return Ended(**{**row, "files": tuple(row["files"])[:20]})


def _following(progress: Progress, projects: int) -> Following:
    return Following(
        serial=max(0, progress.applied),
        projects=projects,
        has_journal=progress.has_journal,
        compared=progress.compared,
        unknown=progress.unknown,
        stale=progress.stale,
        absent=progress.absent,
    )
