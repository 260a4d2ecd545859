"""The log of one build: everything that was printed, and what the slave did in between."""

from pathlib import Path
from types import TracebackType
from typing import Self

LONGEST_TAIL = 128 * 1024


class BuildLog:
    """A log file that is complete up to its limit and says so where it ends early.

    limit: bytes of build output, 0 for any number. What the slave itself says is never cut.
    """

    def __init__(self, path: Path, limit: int = 0):
        self.path = path
        self.limit = limit
        self.printed = 0
        self._file = path.open("w+b", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def heading(self, text: str) -> None:
        """Begin a step."""
        self._file.write(f"\n=== {text}\n".encode(errors="replace"))

    def say(self, text: str) -> None:
        """Add a line of the slave's own."""
        self._file.write(f"{text}\n".encode(errors="replace"))

    def output(self, chunk: bytes) -> bool:
        """Add output of the build. Return whether it still fits."""
        if self.limit and self.printed + len(chunk) > self.limit:
            if self.printed < self.limit:
                self._file.write(chunk[: self.limit - self.printed])
                self.printed = self.limit
                self.say(f"\n[cut here: the build printed more than {self.limit} bytes]")
            return False
        self._file.write(chunk)
        self.printed += len(chunk)
        return True

    def mark(self) -> int:
        """The place where the log now ends, for tail()."""
        return self._file.tell()

    def tail(self, since: int = 0) -> str:
        """What was written after the place *since*, or the end of it if it is long."""
        end = self._file.seek(0, 2)
        self._file.seek(max(since, end - LONGEST_TAIL))
        text = self._file.read().decode("utf-8", "replace")
        self._file.seek(0, 2)
        return text
