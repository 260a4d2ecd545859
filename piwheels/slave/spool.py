"""What a slave keeps on disk of a build until the master has it.

One folder a lease, named after its token: the order, and at the end its log and wheels and,
written last, the result. A folder with a result outlives crashes and is delivered by the
next run; one without is the rest of a build that died.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from piwheels.model.builds import BuildResult, Outcome
from piwheels.model.errors import BadMessage
from piwheels.protocol.slave import FROM_SLAVE, LOG_NAME, Built, DeliveredFile
from piwheels.slave.failed import failure_of_system

RESULT = "result.cbor"


class Spool:
    """The folders of all leases, below *directory*."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, lease: bytes) -> Path:
        """Where the log and wheels of *lease* are."""
        return self.directory / lease.hex()

    def open(self, lease: bytes) -> Path:
        """Make the folder of a lease that begins; return it."""
        folder = self.folder(lease)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def keep(self, lease: bytes, result: BuildResult) -> Built:
        """Write down the *result* of a build, to be delivered whatever happens next.

        If the disk has no room for that, the files go and that they do is the result.
        """
        try:
            return self._write(lease, result)
        except OSError as error:
            self.forget(lease)
            failure = result.failure or failure_of_system(error)
            rest = replace(result, failure=failure, wheels=(), log=None)
        try:
            self.open(lease)
            return self._write(lease, rest)
        except OSError:
            return _describe(lease, rest)  # as long as this process lives, it can still tell

    def _write(self, lease: bytes, result: BuildResult) -> Built:
        built = _describe(lease, result)
        folder = self.folder(lease)
        for path in _files(result):
            _sync(path)
        unfinished = folder / f".{RESULT}"
        unfinished.write_bytes(FROM_SLAVE.encode(built))
        _sync(unfinished)
        unfinished.replace(folder / RESULT)
        _sync(folder)
        return built

    def results(self) -> Iterator[Built]:
        """The results that were kept, oldest first; what a crash left beside them goes."""
        for folder in sorted(self.directory.iterdir(), key=lambda path: path.stat().st_mtime):
            built = _read(folder / RESULT)
            if built is not None and self.folder(built.lease) == folder and self._is_whole(built):
                yield built
            else:
                shutil.rmtree(folder, ignore_errors=True)

    def _is_whole(self, built: Built) -> bool:
        """Whether its files are as they were; else they could never be delivered."""
        files = self.files(built)
        try:
            return all(
                _delivered(files[each.name]) == each for each in (built.log, *built.wheels) if each
            )
        except OSError:
            return False

    def files(self, built: Built) -> dict[str, Path]:
        """The files of a result, by name."""
        folder = self.folder(built.lease)
        files = (*built.wheels, *([built.log] if built.log else []))
        return {file.name: folder / file.name for file in files}

    def forget(self, lease: bytes) -> None:
        """Drop all that is kept of *lease*."""
        shutil.rmtree(self.folder(lease), ignore_errors=True)


def log_tail(folder: Path, size_bytes: int = 2_000) -> str:
    """The end of the log in *folder*; '' while there is none."""
    try:
        with (folder / LOG_NAME).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - size_bytes))
            return log.read(size_bytes).decode("utf-8", "replace").replace("\0", "\ufffd")
    except OSError:  # it is not there yet, or the disk is going
        return ""


def _describe(lease: bytes, result: BuildResult) -> Built:
    failure = result.failure
    return Built(
        lease=lease,
        outcome=result.outcome,
        seconds=result.seconds,
        log=_delivered(result.log) if result.log else None,
        wheels=tuple(map(_delivered, result.wheels)) if result.outcome is Outcome.SUCCESS else (),
        kind=failure.kind if failure else None,
        cause=failure.cause if failure else "",
        fix=failure.fix if failure else "",
        phases=result.phases,
        peak_memory=result.peak_memory,
        cpu_seconds=result.cpu_seconds,
        sandbox=result.sandbox,
        network_used=result.network_used,
        environment=result.environment,
        needs=failure.needs if failure else "",
    )


def _files(result: BuildResult) -> tuple[Path, ...]:
    return (*result.wheels, *([result.log] if result.log else []))


def _delivered(path: Path) -> DeliveredFile:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return DeliveredFile(path.name, path.stat().st_size, sha256)


def _read(path: Path) -> Built | None:
    try:
        message = FROM_SLAVE.decode(path.read_bytes())
    except (OSError, BadMessage):
        return None
    return message if isinstance(message, Built) else None


def _sync(path: Path) -> None:
    """Make sure that *path*, a file or folder, outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
