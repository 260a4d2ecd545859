"""Telling systemd that a service is ready and alive.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import contextlib
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

READY = "READY=1"
ALIVE = "WATCHDOG=1"
STOPPING = "STOPPING=1"


def status(text: str) -> str:
    """One line for `systemctl status`."""
    return "STATUS=" + " ".join(text.split())


@dataclass(frozen=True, slots=True)
class Systemd:
    """The service manager, if there is one: without it (address None) notices go nowhere.

    watchdog: seconds within which it wants to hear ALIVE, None where it does not.
    """

    address: str | None = None
    watchdog: float | None = None

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "Systemd":
        """Take what systemd said, out of the environment: it was meant for this process only."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        wanted = (
            microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        )
        return cls(
            address=address if address.startswith(("/", "@")) else None,
            watchdog=int(microseconds) / 1e6 if wanted else None,
        )

    def notify(self, *notices: str) -> None:
        """Send notices in one message. A manager that cannot be reached is not our failure."""
        if self.address is None:
            return
        # "@" stands for the NUL of an abstract address, which no variable can hold.
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            with contextlib.suppress(OSError):
                channel.sendto("\n".join(notices).encode(), address)
