"""Listening again on an address of this process."""

import time
from collections.abc import Callable
from typing import TypeVar

from piwheels.transport.sockets import AddressTaken

T = TypeVar("T")
PATIENCE = 30.0  # seconds


def once_free(listen: Callable[[], T]) -> T:
    """What *listen* returns; zmq gives an address back a moment after its socket is closed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return listen()
        except AddressTaken:
            assert time.monotonic() < deadline
            time.sleep(0.05)
