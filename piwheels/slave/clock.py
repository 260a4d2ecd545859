"""How long a build may still take, and whether it is still wanted."""

import threading
import time
from dataclasses import dataclass

from piwheels.model.builds import FailureClass
from piwheels.slave.failed import Cancelled, failed


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of one build. seconds: allowed in all, 0 for as long as it takes.

    started: by time.monotonic().
    """

    started: float
    seconds: float
    cancelled: threading.Event

    @classmethod
    def start(cls, seconds: float, cancelled: threading.Event) -> "Clock":
        """A clock that starts now."""
        return cls(time.monotonic(), seconds, cancelled)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def check(self) -> None:
        """Raise Cancelled, or BuildFailed if the time is up."""
        if self.cancelled.is_set():
            raise Cancelled("the build was cancelled")
        if self.seconds and self.elapsed > self.seconds:
            raise failed(
                FailureClass.TIMEOUT,
                f"the build took longer than the {self.seconds:g} seconds it was allowed",
                "allow it more time, or build it on a faster slave",
            )

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond cancellation or the end of the time. Raise like check()."""
        self.cancelled.wait(seconds)
        self.check()
