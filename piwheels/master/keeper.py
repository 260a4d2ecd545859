"""The keeper: what must happen by itself, without anybody asking.

It gives up leases that ran out, lets retries be claimed when their time has come, and brings
the queue in line after changes that concern many versions, so that none of it ever holds up
the dispatcher. Each turn is a few short transactions.
"""

import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Engine

from piwheels.database import leases
from piwheels.database import queue as table
from piwheels.database.connection import transaction
from piwheels.master import conclusion, queue
from piwheels.master.service import on_wake_up
from piwheels.rules.failures import CONSEQUENCES
from piwheels.rules.slave_session import Timing

BATCH = 1_000  # versions judged in one transaction: a commit of one of them waits that long
PERIOD = 1.0  # seconds between two looks at the clock
LONGEST_DELAY = max((each.cap for each in CONSEQUENCES.values()), default=timedelta(0)) * 2


class Keeper:
    """The service. *clock* gives monotonic seconds."""

    def __init__(
        self,
        engine: Engine,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.timing = timing or Timing()
        self.clock = clock
        self.looked = clock() - PERIOD

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        on_wake_up(self.engine, ["rejudge"], self.keep, is_stopping, beat)

    def keep(self) -> bool:
        """Do once what is due; whether there is more to do at once."""
        if self.clock() - self.looked >= PERIOD:
            self.looked = self.clock()
            self._look_at_the_clock()
        return self.judge()

    def _look_at_the_clock(self) -> None:
        with transaction(self.engine) as connection:
            lost = leases.expired(connection, self.timing.lease)
            cause = "{label} fell silent in the middle of the build"
            queue.refresh(connection, conclusion.give_up(connection, lost, cause))
        with transaction(self.engine) as connection:
            table.fall_due(connection, LONGEST_DELAY)
            table.fold_counts(connection)

    def judge(self) -> bool:
        """Judge a batch of the versions that are to be judged again; whether there were any."""
        with transaction(self.engine) as connection:
            batch = table.take_to_judge(connection, BATCH)
            queue.refresh(connection, batch)
        return bool(batch)
