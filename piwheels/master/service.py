"""What services have in common: to be woken by the database, and to outlive its absence."""

import logging
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from piwheels.database.connection import WakeUps
from piwheels.model.errors import Unavailable

log = logging.getLogger(__name__)

POLL = 1.0  # seconds: a lost wake-up costs that long


def on_wake_up(
    engine: Engine,
    channels: Sequence[str],
    work: Callable[[], bool],
    is_stopping: Callable[[], bool],
    beat: Callable[[], None],
) -> None:
    """Do *work* whenever one of *channels* is notified, and every POLL seconds anyway.

    work returns whether there is more to do at once.
    """
    while not is_stopping():
        try:
            with WakeUps(engine, *channels) as wake_ups:
                while not is_stopping():
                    is_more = work()
                    beat()
                    if not is_more:
                        wake_ups.wait(POLL)
        except (Unavailable, DBAPIError) as error:  # away, or in conflict with another service
            log.warning("%s; trying again", error)
            beat()
            time.sleep(POLL)
