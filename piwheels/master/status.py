"""The status service: tells monitors how the farm is, about once a second."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from piwheels.database import status
from piwheels.database.connection import transaction
from piwheels.model.errors import Unavailable
from piwheels.protocol.status import (
    FROM_STATUS,
    Ended,
    Farm,
    Running,
    SlaveStatus,
    Waiting,
)
from piwheels.transport import Broadcaster

log = logging.getLogger(__name__)

PERIOD = 0.5  # seconds
SILENCE = 60.0  # seconds without a word after which a slave is shown as silent


class Status:
    """The service."""

    def __init__(self, engine: Engine, address: str) -> None:
        # One snapshot for all queries: a build is running or has ended, never both or neither.
        self.engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self.broadcaster = Broadcaster(address)

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        while not is_stopping():
            try:
                self.broadcaster.say(FROM_STATUS.encode(self.farm()))
            except Unavailable as error:
                log.warning("%s; trying again", error)
            beat()
            time.sleep(PERIOD)
        self.broadcaster.close()

    def farm(self) -> Farm:
        """The farm as it is now."""
        with transaction(self.engine) as connection:
            rows = status.snapshot(connection, SILENCE)
        return Farm(
            moment=datetime.now(UTC),
            queued=rows["queued"],
            later=rows["later"],
            pages=rows["pages"],
            waiting=tuple(Waiting(**row) for row in rows["waiting"]),
            running=tuple(Running(**row) for row in rows["running"]),
            ended=tuple(_ended(row) for row in rows["ended"]),
            slaves=tuple(SlaveStatus(**row) for row in rows["slaves"]),
        )


def _ended(row: dict[str, Any]) -> Ended:
    return Ended(**{**row, "files": tuple(row["files"])[:20]})
