"""From a staged file to a published one: verify, place in the web tree, put on record.

Each step may be repeated after a crash: the staged file stays until its verdict is on record,
and placing the same bytes twice is placing them once.
"""

import gzip
import hashlib
import logging
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, cast

from sqlalchemy import Engine

from piwheels.database import uploads
from piwheels.database.connection import transaction
from piwheels.database.uploads import ExpectedFile
from piwheels.index.durable import NameTaken
from piwheels.index.writer import WebTree
from piwheels.master.build_tags import copy_with_build, next_build
from piwheels.master.staging import StagedFile
from piwheels.model.errors import BadName, BadWheel, Unavailable
from piwheels.model.names import parse_wheel_name, wheel_name_with_build
from piwheels.model.published import log_path
from piwheels.protocol.files import Put, Refused, Stored
from piwheels.protocol.slave import LOG_NAME
from piwheels.rules.ingest import WheelReport, inspect, refusal
from piwheels.rules.transfer import Corrupt, Faltered, Settled

COPY_BYTES = 1024 * 1024
COMPRESSION = 6
LONGEST_REASON = 1_000  # protocol.fields.Line
LONGEST_SUMMARY = 2_000

log = logging.getLogger(__name__)


class Verifier:
    """Gives verdicts on staged files, in any number of threads."""

    def __init__(self, engine: Engine, tree: WebTree) -> None:
        self.engine = engine
        self.tree = tree

    def verify(
        self, put: Put, wanted: ExpectedFile, staged: StagedFile
    ) -> Settled | Corrupt | Faltered:
        """Verify a complete file, place it and put that on record. Never raises."""
        try:
            return self._verify(put, wanted, staged)
        except (OSError, Unavailable) as error:
            log.warning("build %d: %s must wait: %s", wanted.build_id, put.name, error)
        except Exception:
            # Whatever one file brought about, the others must arrive.
            log.exception("build %d: %s could not be verified", wanted.build_id, put.name)
        return Faltered()

    def refuse(self, put: Put, wanted: ExpectedFile, reason: str) -> Settled:
        """Put on record that a file is refused. Raise Unavailable."""
        reason = printable(reason, LONGEST_REASON)
        with transaction(self.engine) as connection:
            uploads.record_refused(connection, wanted.build_id, put.name, reason)
        log.warning("build %d: refused %s: %s", wanted.build_id, put.name, reason)
        return Settled(Refused(put.lease, put.name, reason))

    def _verify(
        self, put: Put, wanted: ExpectedFile, staged: StagedFile
    ) -> Settled | Corrupt | Faltered:
        if staged.digest() != wanted.sha256:
            log.warning("build %d: %s came with wrong bytes", wanted.build_id, put.name)
            return Corrupt()
        try:
            if put.name == LOG_NAME:
                placed = place_log(self.tree, staged.path, wanted.build_id)
            else:
                placed = place_wheel(self.tree, staged.path, put.name, wanted)
        except BadWheel as error:
            verdict = self.refuse(put, wanted, str(error))
        else:
            verdict = self._accept(put, wanted, placed)
        staged.erase()
        return verdict

    def _accept(self, put: Put, wanted: ExpectedFile, placed: Mapping[str, Any]) -> Settled:
        with transaction(self.engine) as connection:
            is_wanted = uploads.record_placed(connection, wanted.build_id, put.name, placed)
        if is_wanted:
            return Settled(Stored(put.lease, put.name))
        return Settled(Refused(put.lease, put.name, "the lease ended while the file was verified"))


def place_log(tree: WebTree, staged: Path, build_id: int) -> dict[str, Any]:
    """Publish a build's log, compressed. Return what goes on record. Raise OSError."""
    with staged.open("rb") as plain, _beside(staged) as packed:
        # No name and no time in the header: the same log makes the same bytes.
        with gzip.GzipFile("", "wb", COMPRESSION, packed, mtime=0) as compressor:
            shutil.copyfileobj(plain, compressor, COPY_BYTES)
        packed.flush()
        try:
            tree.place(Path(packed.name), tree.log_path(build_id))
        except NameTaken:
            log.warning("build %d: the log that came first stays", build_id)
    return {"log": log_path(build_id)}


def place_wheel(tree: WebTree, staged: Path, filename: str, wanted: ExpectedFile) -> dict[str, Any]:
    """Publish the wheel that a lease asked for, under the next build tag if it must be.

    staged: has the hash that *wanted* tells. Return what goes on record.
    Raise BadWheel with the reason not to publish it; OSError.
    """
    report = _inspect(staged, filename)
    if reason := refusal(report, wanted.package, wanted.version, wanted.tags):
        raise BadWheel(reason)
    try:
        return _publish(tree, staged, report, wanted.sha256)
    except NameTaken:
        return _publish_rebuild(tree, staged, filename)


def _publish_rebuild(tree: WebTree, staged: Path, filename: str) -> dict[str, Any]:
    """Publish a wheel whose name has other bytes, under the first build tag that has not."""
    name = parse_wheel_name(filename)
    for build in count(next_build(name)):
        with staged.open("rb") as wheel, _beside(staged) as copy:
            copy_with_build(wheel, copy, build)
            copy.flush()
            path = Path(copy.name)
            report = _inspect(path, wheel_name_with_build(name, build))
            copy.seek(0)
            sha256 = hashlib.file_digest(cast(Any, copy), "sha256").hexdigest()
            try:
                return _publish(tree, path, report, sha256)
            except NameTaken:
                continue
    raise AssertionError("numbers do not end")


def _publish(tree: WebTree, path: Path, report: WheelReport, sha256: str) -> dict[str, Any]:
    """Place a wheel and its METADATA. Raise NameTaken, BadWheel, OSError."""
    try:
        wheel = tree.wheel_path(report.package, report.filename)
        sidecar = tree.sidecar_path(report.package, report.filename)
    except BadName as error:
        raise BadWheel(str(error)) from error
    tree.place(path, wheel)  # first: METADATA must never lie beside another build's wheel
    tree.place_bytes(report.metadata, sidecar)
    return {
        "name": report.filename,
        "size": path.stat().st_size,
        "sha256": sha256,
        "metadata_sha256": report.metadata_sha256,
        "tags": sorted(report.tags),
        "requires_python": report.requires_python,
        "summary": printable(report.summary, LONGEST_SUMMARY),
    }


def _inspect(path: Path, filename: str) -> WheelReport:
    with path.open("rb") as wheel:
        try:
            return inspect(wheel, filename)
        except (BadWheel, OSError):
            raise
        except Exception as error:
            # A stranger made it: what nobody foresaw is its fault, or it would come for ever.
            log.exception("%s could not be inspected", filename)
            raise BadWheel(f"it cannot be inspected: {type(error).__name__}") from error


def _beside(staged: Path) -> AbstractContextManager[IO[bytes]]:
    """A temporary file in the same directory; no FileName of the protocol begins with ~."""
    return NamedTemporaryFile(dir=staged.parent, prefix="~")


def printable(text: str, longest: int) -> str:
    """*text* in one line of at most *longest* characters that every store and terminal takes."""
    line = "".join(c if c.isprintable() else " " for c in text[: 2 * longest])
    return " ".join(line.split())[:longest]
