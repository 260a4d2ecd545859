"""What a child tells its supervisor: that it is ready, that it lives, what went wrong.

One pipe per child, lines of text, written by the child only. The pipe's descriptor is
handed to a forked function as a Heart and to an executed command in PIW_HEART.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

VARIABLE = "PIW_HEART"

_READY = b"ready"
_BEAT = b"beat"
_WORDS = b"words "
_LONGEST_LINE = 2048  # below PIPE_BUF, so that lines of several threads never mix


@dataclass(frozen=True, slots=True)
class Heart:
    """The child's end. Without a supervisor (fd None) it says everything to nobody.

    Never blocks and never fails: a supervisor that does not listen must not stop the work.
    """

    fd: int | None = None

    @classmethod
    def from_environment(cls) -> "Heart":
        """Take the descriptor from PIW_HEART, and keep it from processes started later."""
        number = os.environ.pop(VARIABLE, "")
        if not number.isdecimal():
            return cls()
        os.set_inheritable(int(number), False)
        os.set_blocking(int(number), False)
        return cls(int(number))

    def ready(self) -> None:
        """Say that the work can begin."""
        self._say(_READY)

    def beat(self) -> None:
        """Say that the work goes on. The first beat is a promise of more."""
        self._say(_BEAT)

    def last_words(self, text: str) -> None:
        """Say in one line why this process is about to end."""
        self._say(_WORDS + " ".join(text.split()).encode())

    def _say(self, line: bytes) -> None:
        if self.fd is None:
            return
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self.fd, line[:_LONGEST_LINE] + b"\n")


@dataclass(slots=True)
class HeartMonitor:
    """The supervisor's end. last_beat: by the monotonic clock, None before the first."""

    fd: int
    is_ready: bool = False
    last_beat: float | None = None
    last_words: str = ""
    _unfinished: bytes = field(default=b"", repr=False)

    def listen(self, now: float) -> bool:
        """Take in what was said by now. Return False once nobody can speak any more."""
        while True:
            try:
                chunk = os.read(self.fd, 65536)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            for line in self._lines(chunk):
                self._hear(line, now)

    def _lines(self, chunk: bytes) -> Iterator[bytes]:
        *lines, rest = (self._unfinished + chunk).split(b"\n")
        self._unfinished = rest[:_LONGEST_LINE]
        yield from lines

    def _hear(self, line: bytes, now: float) -> None:
        if line == _READY:
            self.is_ready = True
        elif line == _BEAT:
            self.last_beat = now
        elif line.startswith(_WORDS):
            self.last_words = line.removeprefix(_WORDS).decode(errors="replace")


def heart_pipe() -> tuple[HeartMonitor, int]:
    """Make the pipe: the supervisor's end and the descriptor for the child, both non-blocking."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return HeartMonitor(read_end), write_end
