"""Gives the files of a build to the farm's receiver, however long that takes.

The shell around the sender's table in piwheels.rules.transfer. Meant for a thread of its own.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path

from piwheels.model.errors import BadMessage, IllegalMessage
from piwheels.protocol.files import FROM_RECEIVER, FROM_SENDER, Chunk, Fetch, Put, Refused, Stored
from piwheels.rules.transfer import Delivered, Read, Say, SenderAction, Silence, offer, send_step
from piwheels.transport.sockets import Talker, Waiter

FIRST_PATIENCE = 5.0  # seconds; a chunk takes that long at 50 kB/s
LONGEST_PATIENCE = 60.0
GLANCE = 0.25  # seconds between two looks at whether all was called off

Progress = Callable[[str, int, int], None]


def send_files(
    address: str,
    lease: bytes,
    files: Mapping[str, Path],
    cancelled: threading.Event,
    progress: Progress = lambda name, sent_bytes, size: None,
    patience: float = FIRST_PATIENCE,
) -> dict[str, str | None]:
    """Send *files*, one after the other; return None for each that is stored, else the reason.

    Goes on through restarts and absences of the receiver until *cancelled*; then the files
    without a verdict are left out. progress: told name, bytes sent and size after each chunk.
    patience: seconds of silence before the first repetition; each next one takes twice as long.
    """
    verdicts: dict[str, str | None] = {}
    with _Line(address, cancelled) as line:
        for name, path in files.items():
            try:
                with path.open("rb") as file:
                    delivered = _deliver(
                        line, _describe(lease, name, file), file, progress, patience
                    )
            except OSError as error:
                delivered = Delivered(f"{name} cannot be read on the slave: {error.strerror}")
            if delivered is None:
                break
            verdicts[name] = delivered.reason
    return verdicts


class FileChanged(OSError):
    """A file is not what it was when it was offered. The slave's fault; it is not sent."""


def _describe(lease: bytes, name: str, file: BufferedReader) -> Put:
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Put(lease, name, file.tell(), sha256)


def _deliver(
    line: "_Line", put: Put, file: BufferedReader, progress: Progress, patience: float
) -> Delivered | None:
    """Send one file; None if all was called off."""
    state, actions = offer(put)
    while not isinstance(state, Delivered):
        for action in actions:
            line.say(_message(action, put, file))
            if isinstance(action, Read):
                progress(put.name, action.offset + action.length, put.size)
        event = line.hear(put, patience)
        if event is None:
            return None
        if isinstance(event, Silence):
            # Never shortened again for this file: on a slow line that would mean asking for
            # the same chunks over and over while they are on their way.
            patience = min(2 * patience, LONGEST_PATIENCE)
            if patience == LONGEST_PATIENCE:
                line.redial()
        try:
            state, actions = send_step(state, event)
        except IllegalMessage:
            actions = []
            line.redial()
    return state


def _message(action: SenderAction, put: Put, file: BufferedReader) -> object:
    if isinstance(action, Say):
        return action.message
    file.seek(action.offset)
    data = file.read(action.length)
    if len(data) != action.length:
        raise FileChanged(0, "it became shorter while it was sent")
    return Chunk(put.lease, put.name, action.offset, data)


class _Line:
    """The connection to the receiver, and when to stop waiting for it."""

    def __init__(self, address: str, cancelled: threading.Event) -> None:
        self.address = address
        self.cancelled = cancelled
        self.talker = Talker(address)

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.talker.close()

    def redial(self) -> None:
        """Connect anew; what was said and did not leave yet is stale and forgotten."""
        self.talker.close()
        self.talker = Talker(self.address)

    def say(self, message: object) -> None:
        self.talker.say(FROM_SENDER.encode(message))

    def hear(self, put: Put, patience: float) -> Fetch | Stored | Refused | Silence | None:
        """The next message about *put*, or Silence after *patience*; None: called off."""
        deadline = time.monotonic() + patience
        while not self.cancelled.is_set():
            message = self._next_message()
            if message is not None:
                if (message.lease, message.name) == (put.lease, put.name):
                    return message
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return Silence()
            Waiter(self.talker).wait(min(left, GLANCE))
        return None

    def _next_message(self) -> Fetch | Stored | Refused | None:
        frame = self.talker.hear()
        if frame is None:
            return None
        try:
            message: Fetch | Stored | Refused = FROM_RECEIVER.decode(frame)
        except BadMessage:
            self.redial()
            return None
        return message
