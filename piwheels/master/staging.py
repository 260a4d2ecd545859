"""Where files lie until they are verified: <staging>/<build id>/<name>.

On the file system of the web tree, so that placing a file moves no bytes. What is here is
only ever lost time: the length of a staged file says what was received, nothing else does.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

READ_BYTES = 1024 * 1024


class StagingChanged(OSError):
    """A staged file is not as long as it was: swept, or cut by the disk. It is begun anew."""


class StagedFile:
    """A file that grows at its end and is hashed as it grows.

    Opened for each piece, so that a sender who falls silent holds no descriptor. What was
    there before this process is hashed when the digest is asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sha256 = hashlib.sha256()
        self._hashed = 0

    def length(self) -> int:
        """Bytes staged so far."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def append(self, offset: int, data: bytes) -> None:
        """Add *data* at the end, which must be *offset*. Raise OSError."""
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            if file.tell() != offset:
                raise StagingChanged(errno.ESTALE, f"it has not {offset} bytes any more")
            if os.fstat(file.fileno()).st_nlink != 1:
                self.erase()  # a wheel is published under its other name: never write to it
                raise StagingChanged(errno.ESTALE, "it was placed while more was to come")
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "no space left for a whole chunk")
        if self._hashed == offset:
            self._sha256.update(data)
            self._hashed += len(data)

    def digest(self) -> str:
        """The SHA-256 of all that is staged, in hex; makes the file if it is empty."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.touch()
        with self.path.open("rb") as file:
            file.seek(self._hashed)
            while piece := file.read(READ_BYTES):
                self._sha256.update(piece)
                self._hashed += len(piece)
        return self._sha256.hexdigest()

    def erase(self) -> None:
        """Remove it; what comes next begins at 0."""
        self.path.unlink(missing_ok=True)
        self._sha256 = hashlib.sha256()
        self._hashed = 0


class Staging:
    """The staged files of all builds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def file(self, build_id: int, name: str) -> StagedFile:
        """The staged file *name*, a valid protocol FileName, of a build."""
        return StagedFile(self.workshop(build_id) / name)

    def workshop(self, build_id: int) -> Path:
        """The directory of a build's files."""
        return self.root / str(build_id)

    def build_ids(self) -> frozenset[int]:
        """The builds that have files here."""
        names = (path.name for path in self.root.iterdir())
        return frozenset(int(name) for name in names if name.isascii() and name.isdecimal())

    def discard(self, build_ids: Collection[int]) -> None:
        """Remove all files of these builds."""
        for build_id in build_ids:
            shutil.rmtree(self.workshop(build_id), ignore_errors=True)
