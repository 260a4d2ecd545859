"""The keeper: what must happen by itself, without anybody asking.

It gives up leases that ran out and brings the queue in line after bulk changes, so that
neither ever holds up the dispatcher.
"""

from collections.abc import Callable

from sqlalchemy import Engine

from piwheels.database import leases
from piwheels.database.connection import transaction
from piwheels.master import queue
from piwheels.master.service import on_wake_up


class Keeper:
    """The service."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        on_wake_up(self.engine, ["targets"], self.keep, is_stopping, beat)

    def keep(self) -> None:
        """Do once what is due."""
        with transaction(self.engine) as connection:
            lost = leases.give_up_expired(connection)
            queue.refresh(connection, set(lost))
        with transaction(self.engine) as connection:
            unsettled = leases.unsettled_targets(connection)
        if unsettled:
            queue.refresh_all(self.engine)
            with transaction(self.engine) as connection:
                leases.settle(connection, unsettled)
