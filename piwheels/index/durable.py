"""Files that are whole or absent, whatever is killed, and still there after a power cut.

Every file is prepared under a temporary name beside its final one. Temporary names start
with a dot, which no server shows; a writer that is killed leaves one behind, for sweep().
"""

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from piwheels.model.errors import PiwheelsError

PREFIX = ".piwheels-"
SUFFIX = ".tmp"
FILE_MODE = 0o644  # whatever the umask: another user's web server reads the tree
FOLDER_MODE = 0o755
COMPRESSION = 6  # the last three levels cost four times as much for a tenth of the size

Blocks = Callable[[], Iterable[bytes]]
"""The content of a file, anew at every call: it may be too large to be held in memory."""


class NameTaken(PiwheelsError):
    """Other bytes are published under this name, and stay: publish under a higher build tag."""


def replace_page(page: Path, blocks: Blocks) -> bool:
    """Write *page* and its .gz variant. Return False, and touch neither, if they are current.

    Their folder's entry is not yet durable: call sync_folder() when all pages in it are written.
    """
    packed = packed_path(page)
    if _is_current(page, packed, blocks()):
        return False
    with temporary(page.parent) as plain_file, temporary(page.parent) as packed_file:
        _fill(plain_file, packed_file, blocks())
        os.replace(plain_file.name, page)
        os.replace(packed_file.name, packed)
    return True


def packed_path(page: Path) -> Path:
    """Where the .gz variant of *page* lies."""
    return page.with_name(f"{page.name}.gz")


def link_new(source: Path, destination: Path) -> bool:
    """Publish *source*, a finished file of the same owner, as *destination*, for ever.

    Return False if the same bytes are there already. Raise NameTaken if other bytes are.
    """
    with open(source, "rb") as file:
        os.fchmod(file.fileno(), FILE_MODE)
        os.fsync(file.fileno())
    try:
        os.link(source, destination)
    except FileExistsError:
        if not _is_same(source, destination):
            raise NameTaken(
                f"{destination.name} is already published with other content, which never"
                " changes: publish this one under a higher build tag"
            ) from None
        is_new = False
    else:
        is_new = True
    sync_folder(destination.parent)  # even if it is not new: its writer may have died just here
    return is_new


@contextmanager
def temporary(folder: Path) -> Iterator[IO[bytes]]:
    """A new file in *folder*, gone afterwards unless it was renamed. Write, then finish() it."""
    with NamedTemporaryFile(dir=folder, prefix=PREFIX, suffix=SUFFIX, delete=False) as file:
        try:
            os.fchmod(file.fileno(), FILE_MODE)
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def finish(file: IO[bytes]) -> None:
    """Bring all of *file* to the disk."""
    file.flush()
    os.fsync(file.fileno())  # renaming is atomic, not durable: no empty page after a power cut


def make_folder(folder: Path) -> None:
    """Make *folder* and those above it that are missing, durably and open to readers."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another service was faster
        folder.mkdir()
        folder.chmod(FOLDER_MODE)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in *folder* to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Whether *name* is one that temporary() gives."""
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def _fill(plain: IO[bytes], packed: IO[bytes], blocks: Iterable[bytes]) -> None:
    # No name and no time in the header: equal pages have equal .gz variants.
    with gzip.GzipFile("", "wb", COMPRESSION, packed, mtime=0) as compressor:
        for block in blocks:
            plain.write(block)
            compressor.write(block)
    finish(plain)
    finish(packed)


def _is_current(page: Path, packed: Path, blocks: Iterable[bytes]) -> bool:
    """Whether both files hold these blocks. One that cannot be read does not."""
    try:
        with open(page, "rb") as plain_file, gzip.open(packed) as packed_file:
            return all(
                plain_file.read(len(block)) == block == packed_file.read(len(block))
                for block in blocks
            ) and not (plain_file.read(1) or packed_file.read(1))
    except (OSError, EOFError, zlib.error):
        return False


def _is_same(first: Path, second: Path) -> bool:
    return first.stat().st_size == second.stat().st_size and _sha256(first) == _sha256(second)


def _sha256(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
