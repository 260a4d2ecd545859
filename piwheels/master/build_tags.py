"""A wheel under a new build tag: same content, another name.

Bytes never change under a name, so a rebuild is published under the next build tag, which
pip and uv prefer. The tag stands in the filename and in WHEEL, so RECORD changes too.
Source: binary distribution format, file name convention and file contents.
"""

import base64
import csv
import hashlib
import io
import shutil
from collections.abc import Iterator
from typing import IO
from zipfile import ZipFile, ZipInfo

from piwheels.model.names import WheelName

COPY_BYTES = 1024 * 1024
SIGNATURES = ("RECORD.jws", "RECORD.p7s")  # of a RECORD that is not there any more


def next_build(name: WheelName) -> int:
    """The build number after the one in *name*."""
    return name.build[0] + 1 if name.build else 1


def copy_with_build(source: IO[bytes], target: IO[bytes], build: int) -> None:
    """Write the sane wheel *source* as *target*, which can seek, under build number *build*.

    The same source and number give the same bytes, in memory bounded by RECORD.
    """
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        info = _dist_info(old)
        dropped = {f"{info}/{signature}" for signature in SIGNATURES}
        wheel = _with_build_line(old.read(f"{info}/WHEEL"), build)
        replaced = {
            f"{info}/WHEEL": wheel,
            f"{info}/RECORD": _corrected_record(
                old.read(f"{info}/RECORD"), f"{info}/WHEEL", wheel, dropped
            ),
        }
        for member in old.infolist():
            if member.filename in dropped:
                continue
            content = replaced.get(member.filename)
            if content is None:
                _copy_member(old, new, member)
            else:
                new.writestr(_same_kind_of(member), content)


def _dist_info(wheel: ZipFile) -> str:
    """The one directory whose name ends in .dist-info."""
    (info,) = {top for top in map(_top, wheel.namelist()) if top.endswith(".dist-info")}
    return info


def _top(path: str) -> str:
    return path.split("/", 1)[0]


def _same_kind_of(member: ZipInfo) -> ZipInfo:
    """An entry of the same name, time, mode and compression, for other bytes."""
    entry = ZipInfo(member.filename, member.date_time)
    entry.compress_type = member.compress_type
    entry.create_system = member.create_system
    entry.external_attr = member.external_attr
    return entry


def _copy_member(old: ZipFile, new: ZipFile, member: ZipInfo) -> None:
    entry = _same_kind_of(member)
    entry.file_size = member.file_size  # lets the archive choose 64-bit sizes where needed
    with old.open(member) as content, new.open(entry, "w") as copy:
        shutil.copyfileobj(content, copy, COPY_BYTES)


def _with_build_line(wheel: bytes, build: int) -> bytes:
    """The file WHEEL with its Build line, which stands before the first Tag."""
    lines = [line for line in wheel.decode().splitlines() if not _is_field(line, "build")]
    tags = [number for number, line in enumerate(lines) if _is_field(line, "tag")]
    lines.insert(tags[0] if tags else 1, f"Build: {build}")
    return "".join(f"{line}\n" for line in lines).encode()


def _is_field(line: str, name: str) -> bool:
    return line.lower().startswith(f"{name}:")


def _corrected_record(record: bytes, path: str, content: bytes, dropped: set[str]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.reader(io.StringIO(record.decode(), newline=""))
    csv.writer(text, lineterminator="\n").writerows(_rows(rows, path, content, dropped))
    return text.getvalue().encode()


def _rows(
    rows: Iterator[list[str]], path: str, content: bytes, dropped: set[str]
) -> Iterator[list[str]]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    for row in rows:
        if row and row[0] == path:
            yield [path, f"sha256={digest}", str(len(content))]
        elif row and row[0] not in dropped:
            yield row
