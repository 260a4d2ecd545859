"""Unpacks source distributions without trusting them."""

import bz2
import calendar
import gzip
import io
import lzma
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from piwheels.model.builds import FailureClass
from piwheels.slave.clock import Clock
from piwheels.slave.failed import BuildFailed, failed

MOST_MEMBERS = 250_000
MOST_BYTES = 8 * 1024**3
LONGEST_HEADER = 4 * 1024**2  # of one extended tar header, which tarfile reads into memory
LONGEST_PATH = 1024
OLDEST = 315_532_800  # 1980-01-01: zip files, and so wheels, know no earlier time

DECOMPRESSORS: dict[str, Any] = {
    ".tar.gz": gzip.GzipFile,
    ".tgz": gzip.GzipFile,
    ".tar.bz2": bz2.BZ2File,
    ".tar.xz": lzma.LZMAFile,
}


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of an archive. content: of a file. target: of a link; hard: to a file in it.

    modified: seconds since the epoch. size: bytes.
    """

    path: str
    modified: int
    size: int = 0
    executable: bool = False
    content: IO[bytes] | None = None
    target: str | None = None
    hard: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """An unpacked sdist. top: its one directory. newest: the latest time of its files."""

    top: Path
    newest: int


def unpack(archive: Path, destination: Path, clock: Clock) -> Source:
    """Unpack *archive* into the empty directory *destination*.

    Nothing is written outside of it, no link leads out of it, and nothing in it is a device.
    Raise BuildFailed: bad sdist.
    """
    try:
        return _unpack(archive, destination, clock)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise _bad(f"the archive is broken: {error}") from error
    except (EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _bad(f"the archive is broken: {error}") from error
    except OSError as error:
        if error.errno is None or isinstance(error, gzip.BadGzipFile):  # the decompressors' own
            raise _bad(f"the archive is broken: {error}") from error
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            raise _bad(f"two of its members contradict: {Path(error.filename).name}") from error
        raise


def _bad(cause: str) -> BuildFailed:
    return failed(FailureClass.BAD_SDIST, cause)


def _unpack(archive: Path, destination: Path, clock: Clock) -> Source:
    destination = destination.resolve()
    links: list[tuple[Path, str]] = []
    size = 0
    newest = OLDEST
    for count, member in enumerate(_members(archive), 1):
        clock.check()
        size += member.size
        if count > MOST_MEMBERS or size > MOST_BYTES:
            raise _bad("it unpacks to more than a build may be given")
        path = destination.joinpath(*_safe_parts(member.path))
        if member.target is not None and not member.hard:
            links.append((path, member.target))
            continue
        _write(member, path, destination)
        newest = max(newest, member.modified)
    _make_links(links)  # last, so that no file is written through one
    top = _only_directory(destination)
    _check_links(links, top)
    return Source(top, newest)


def _members(archive: Path) -> Iterator[Member]:
    name = archive.name.lower()
    if name.endswith(".zip"):
        yield from _zip_members(archive)
        return
    for suffix, decompress in DECOMPRESSORS.items():
        if name.endswith(suffix):
            with decompress(archive) as stream:
                yield from _tar_members(stream)
            return
    raise _bad(f"{archive.name} is no kind of archive that sdists come in")


class _Bounded(io.RawIOBase):
    """A stream that refuses to hand out at once what only a bomb would ask for."""

    def __init__(self, stream: IO[bytes]):
        self.stream = stream
        self.seek = stream.seek  # type: ignore[method-assign]
        self.tell = stream.tell  # type: ignore[method-assign]

    def read(self, size: int | None = -1) -> bytes:
        """At most *size* bytes, which must be given and small."""
        if size is None or not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError("one of its headers is too long")
        return self.stream.read(size)


def _tar_members(stream: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=cast(IO[bytes], _Bounded(stream)), mode="r:") as tar:
        for info in tar:
            tar.members.clear()  # type: ignore[attr-defined]  # or all of them stay in memory
            if info.isdir():
                yield Member(info.name, OLDEST)
            elif info.isfile():
                modified, executable = _sane_time(info.mtime), bool(info.mode & 0o111)
                yield Member(info.name, modified, info.size, executable, tar.extractfile(info))
            elif info.issym() or info.islnk():
                yield Member(info.name, OLDEST, target=info.linkname, hard=info.islnk())
            else:
                raise _bad(f"its member {info.name[:100]!r} is neither file, directory nor link")


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as zipped:
        for info in zipped.infolist():
            if info.is_dir():
                yield Member(info.filename, OLDEST)
                continue
            with zipped.open(info) as content:
                modified, executable = _zip_time(info), bool(info.external_attr >> 16 & 0o111)
                yield Member(info.filename, modified, info.file_size, executable, content)


def _sane_time(seconds: float) -> int:
    return int(min(max(seconds, OLDEST), time.time()))


def _zip_time(info: zipfile.ZipInfo) -> int:
    try:
        return _sane_time(calendar.timegm((*info.date_time, 0, 0, 0)))
    except ValueError:  # month 0, say
        return OLDEST


def _safe_parts(path: str) -> tuple[str, ...]:
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/") or ".." in parts or "\x00" in path:
        raise _bad(f"its member {path[:100]!r} has a path that leads elsewhere")
    if len(path) > LONGEST_PATH or any(len(os.fsencode(part)) > 255 for part in parts):
        raise _bad(f"its member {path[:100]!r} has too long a path")
    return parts


def _write(member: Member, path: Path, destination: Path) -> None:
    if member.hard:
        member = _linked(member, destination)
    if member.content is None:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a member may come twice; as in tar, the last one counts
    with path.open("xb") as file, member.content as content:
        shutil.copyfileobj(content, file)
        os.fchmod(file.fileno(), 0o755 if member.executable else 0o644)
    os.utime(path, (member.modified, member.modified))


def _linked(member: Member, destination: Path) -> Member:
    """A hard link as what it stands for: another file with the same content."""
    original = destination.joinpath(*_safe_parts(member.target or ""))
    if not original.is_file():
        raise _bad(f"its member {member.path[:100]!r} is a link to nothing")
    found = original.stat()
    executable = bool(found.st_mode & 0o111)
    return Member(member.path, int(found.st_mtime), 0, executable, original.open("rb"))


def _make_links(links: list[tuple[Path, str]]) -> None:
    """Make symbolic links, none below another one."""
    for path, target in links:
        if _real(path.parent) != path.parent:
            raise _bad(f"its link {path.name[:100]!r} lies below another link")
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        path.symlink_to(target)


def _check_links(links: list[tuple[Path, str]], top: Path) -> None:
    """Refuse links that lead out of *top*, now that those they lead through are there."""
    for path, target in links:
        if PurePosixPath(target).is_absolute() or not _real(path).is_relative_to(top):
            raise _bad(f"its link {path.name[:100]!r} leads outside")


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:  # links in a circle
        raise _bad(f"its link {path.name[:100]!r} leads nowhere") from error


def _only_directory(destination: Path) -> Path:
    found = list(destination.iterdir())
    if len(found) != 1 or not found[0].is_dir() or found[0].is_symlink():
        raise _bad(f"it holds {len(found)} entries at its top instead of one directory")
    return found[0]
