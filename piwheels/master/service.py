"""What services have in common: to be woken by the database, and to outlive its absence."""

import logging
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from piwheels.database.connection import WakeUps
from piwheels.model.errors import Unavailable

log = logging.getLogger(__name__)

POLL = 1.0  # seconds: a lost wake-up costs that long


def on_wake_up(
    engine: Engine,
    channels: Sequence[str],
    work: Callable[[], None],
    is_stopping: Callable[[], bool],
    beat: Callable[[], None],
) -> None:
    """Do *work* whenever one of *channels* is notified, and every POLL seconds anyway."""
    while not is_stopping():
        try:
            with WakeUps(engine, *channels) as wake_ups:
                while not is_stopping():
                    work()
                    beat()
                    wake_ups.wait(POLL)
        except Unavailable as error:
            log.warning("%s; trying again", error)
            beat()
            time.sleep(POLL)
