"""The directories of one build, which go away with it."""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

WRITABLE = ("source", "wheels", "control", "home", "tmp")


@dataclass(frozen=True, slots=True)
class Room:
    """Directories below *root*: those in WRITABLE are the build's, the others the slave's.

    source: the unpacked sdist. wheels: what the build makes. control: its questions and
    answers. tools: scripts that run inside. download: the sdist, and it being unpacked.
    """

    root: Path

    @property
    def source(self) -> Path:
        """The unpacked sdist."""
        return self.root / "source"

    @property
    def wheels(self) -> Path:
        """Where the build puts its wheel."""
        return self.root / "wheels"

    @property
    def control(self) -> Path:
        """Where the hooks find their arguments and leave their answers."""
        return self.root / "control"

    @property
    def home(self) -> Path:
        """The build's home directory, empty at first."""
        return self.root / "home"

    @property
    def tmp(self) -> Path:
        """The build's temporary directory, where the sandbox has none of its own."""
        return self.root / "tmp"

    @property
    def tools(self) -> Path:
        """Scripts that run inside, which the build may read."""
        return self.root / "tools"

    @property
    def download(self) -> Path:
        """For the slave alone: the sdist, and it being unpacked."""
        return self.root / "download"

    @property
    def writable(self) -> tuple[Path, ...]:
        """The directories that the build may write to."""
        return tuple(self.root / name for name in WRITABLE)


@contextmanager
def open_room(directory: Path) -> Iterator[Room]:
    """A new room below *directory*; it is removed at the end, whatever it became.

    The rooms of slaves that are no more are removed first.
    """
    directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    directory.chmod(0o711)  # builds under their own users pass through, and see no other build
    _sweep(directory)
    root = Path(tempfile.mkdtemp(dir=directory, prefix="build-"))
    with _locked(root):
        try:
            root.chmod(0o755)
            room = Room(root)
            for name in (*WRITABLE, "tools"):
                (root / name).mkdir()
                (root / name).chmod(0o755)  # whatever the umask
            room.download.mkdir(mode=0o700)
            yield room
        finally:
            remove(root)


def open_plain(path: Path, limit: int) -> BinaryIO:
    """Open a file that a build left: no link, no pipe, and of not more than *limit* bytes.

    Raise ValueError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be opened: {error.strerror}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size > limit:
        os.close(descriptor)
        raise ValueError(f"{path.name} is no plain file of at most {limit} bytes")
    return open(descriptor, "rb")


def remove(path: Path) -> None:
    """Remove the tree at *path*, however the modes of its directories were set.

    Nobody may be at work in it any more.
    """
    with suppress(OSError):  # what cannot be opened cannot be removed either
        path.chmod(stat.S_IRWXU)
    for parent, directories, _ in os.walk(path):
        for name in directories:
            directory = os.path.join(parent, name)
            if not os.path.islink(directory):
                with suppress(OSError):
                    os.chmod(directory, stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(directory: Path) -> None:
    """Remove rooms whose slaves no longer hold them."""
    for root in directory.glob("build-*"):
        with suppress(OSError):
            descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(root)
            finally:
                os.close(descriptor)
