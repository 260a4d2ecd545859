"""Whether a wheel may be published: the same checks on the slave and on the master.

Nothing of a wheel is executed and nothing is written; every reading is bounded.
"""

import base64
import csv
import hashlib
import io
import stat
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import PurePosixPath
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from packaging.metadata import RawMetadata, parse_email
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from piwheels.model.errors import BadName, BadWheel
from piwheels.model.names import WheelName, parse_wheel_name

MOST_MEMBERS = 100_000
MOST_BYTES = 8 * 1024**3  # unpacked
MOST_RATIO = 200  # unpacked to packed; deflate itself ends at 1032
RATIO_MATTERS_ABOVE = 64 * 1024**2  # a small wheel of zeros is odd, not dangerous
MOST_METADATA_BYTES = 4 * 1024**2
MOST_RECORD_BYTES = 64 * 1024**2
LONGEST_PATH = 1024
CHUNK = 1024 * 1024

ENCRYPTED = 0x1
UNSIGNED = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s"})
STRONG_HASHES = frozenset({"sha256", "sha384", "sha512"})

ELF_MAGIC = b"\x7fELF"
# Machine numbers of the ELF specification and its processor supplements.
ELF_MACHINES = {
    "x86_64": {62},
    "i386": {3},
    "i586": {3},
    "i686": {3},
    "armv5l": {40},
    "armv6l": {40},
    "armv7l": {40},
    "armv8l": {40},
    "aarch64": {183},
    "ppc64le": {21},
    "ppc64": {21},
    "s390x": {22},
    "riscv64": {243},
    "loongarch64": {258},
}


@dataclass(frozen=True, slots=True)
class WheelReport:
    """What a sane wheel says of itself.

    tags: as in WHEEL and in the filename, e.g. {'cp311-cp311-linux_armv7l'}.
    metadata: the bytes of METADATA. requires_python: '' where absent or not a valid specifier.
    native: its members that are ELF files. unpacked_bytes: of all members.
    """

    filename: str
    package: str
    version: str
    tags: frozenset[str]
    metadata: bytes
    metadata_sha256: str
    summary: str
    requires_python: str
    requires: tuple[str, ...]
    root_is_purelib: bool
    native: tuple[str, ...]
    unpacked_bytes: int

    @property
    def is_native(self) -> bool:
        """Whether it holds native code."""
        return bool(self.native)


def inspect(file: BinaryIO, filename: str) -> WheelReport:
    """Check the wheel in *file* (open and seekable) against its *filename*; say what it is.

    Raise BadWheel with the reason. Source: binary distribution format; PEP 376 for RECORD.
    """
    try:
        name = parse_wheel_name(filename)
        with ZipFile(file) as archive:
            return _inspect(archive, name)
    except BadName as error:
        raise BadWheel(str(error)) from error
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadWheel(f"the archive is broken: {error}") from error
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise BadWheel(f"it holds text that cannot be read: {error}") from error


def refusal(
    report: WheelReport, package: str, version: str, target_tags: Collection[str]
) -> str | None:
    """Why this wheel is not the one asked for on a target with *target_tags*; None if it is."""
    if canonicalize_name(package) != report.package:
        return f"{report.filename} is a wheel of {report.package}; {package} was asked for"
    if not _is_same_version(report.version, version):
        return f"{report.filename} has version {report.version}; {version} was asked for"
    if report.tags.isdisjoint(target_tags):
        return f"{report.filename} does not install on the target it was built for"
    return None


def is_degraded(report: WheelReport, native: bool) -> bool:
    """Whether native code is missing. native: whether other wheels of this version hold any."""
    return native and not report.native


def _is_same_version(one: str, other: str) -> bool:
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _inspect(archive: ZipFile, name: WheelName) -> WheelReport:
    members = archive.infolist()
    _check_bounds(members)
    _check_paths(members)
    info = _dist_info(members, name)
    unsigned = {f"{info}/{file}" for file in UNSIGNED}
    record = _read_record(archive, f"{info}/RECORD")
    native = tuple(_verify_members(archive, record, unsigned))
    wheel = _read_wheel(archive, f"{info}/WHEEL", name)
    metadata = _read_bounded(archive, f"{info}/METADATA", MOST_METADATA_BYTES)
    fields = _read_metadata(metadata, name)
    _check_native(name, native)
    return WheelReport(
        filename=name.filename,
        package=name.package,
        version=str(name.version),
        tags=name.tag_names,
        metadata=metadata,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        summary=fields.get("summary", ""),
        requires_python=_valid_specifier(fields.get("requires_python", "")),
        requires=tuple(fields.get("requires_dist", ())),
        root_is_purelib=wheel.get("Root-Is-Purelib", "").strip().lower() == "true",
        native=tuple(path for path, _ in native),
        unpacked_bytes=sum(member.file_size for member in members),
    )


def _check_bounds(members: list[ZipInfo]) -> None:
    """Refuse an archive that would be a burden to unpack."""
    if len(members) > MOST_MEMBERS:
        raise BadWheel(f"it has {len(members)} members; {MOST_MEMBERS} are allowed")
    unpacked = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if unpacked > MOST_BYTES:
        raise BadWheel(f"it unpacks to {unpacked} bytes; {MOST_BYTES} are allowed")
    if unpacked > RATIO_MATTERS_ABOVE and unpacked > MOST_RATIO * packed:
        raise BadWheel(f"it unpacks to more than {MOST_RATIO} times its size")


def _check_paths(members: list[ZipInfo]) -> None:
    """Refuse members that an installer could be fooled with."""
    for member in members:
        if fault := _fault_of_path(member.orig_filename) or _fault_of_kind(member):
            raise BadWheel(f"its member {member.orig_filename[:100]!r} {fault}")
    names = Counter(member.filename.rstrip("/") for member in members)
    if twice := [path for path, times in names.items() if times > 1]:
        raise BadWheel(f"its member {twice[0][:100]!r} is there more than once")
    files = {member.filename for member in members if not member.is_dir()}
    for path in names:
        if not files.isdisjoint(map(str, PurePosixPath(path).parents)):
            raise BadWheel(f"its member {path[:100]!r} lies below a file")


def _fault_of_path(path: str) -> str:
    parts = path.rstrip("/").split("/")
    if len(path) > LONGEST_PATH or any(
        len(part.encode("utf-8", "replace")) > 255 for part in parts
    ):
        return "has too long a path"
    if path.startswith("/") or "\\" in path or (len(path) > 1 and path[1] == ":"):
        return "has an absolute path or another system's"
    if any(part in ("", ".", "..") for part in parts):
        return "has a path that leads elsewhere"
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        return "has control characters in its path"
    return ""


def _fault_of_kind(member: ZipInfo) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither file nor directory"
    if member.flag_bits & ENCRYPTED:
        return "is encrypted"
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return "is compressed in a way that installers do not read"
    return ""


def _dist_info(members: list[ZipInfo], name: WheelName) -> str:
    """The name of the one .dist-info directory, which must be the filename's."""
    tops = {member.filename.split("/", 1)[0] for member in members if "/" in member.filename}
    found = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(found) != 1:
        raise BadWheel(f"it has {len(found)} .dist-info directories instead of one")
    package, _, version = found[0].removesuffix(".dist-info").rpartition("-")
    if canonicalize_name(package) != name.package or not _is_same_version(
        version, str(name.version)
    ):
        raise BadWheel(f"its {found[0]} does not agree with its filename")
    return found[0]


def _read_bounded(archive: ZipFile, path: str, limit: int) -> bytes:
    try:
        member = archive.getinfo(path)
    except KeyError:
        raise BadWheel(f"it has no {path}") from None
    if member.file_size > limit:
        raise BadWheel(f"its {path} is larger than {limit} bytes")
    with archive.open(member) as file:
        content = file.read(limit)
    _refuse_other_length(member, len(content))
    return content


def _refuse_other_length(member: ZipInfo, length: int) -> None:
    """Python's zipfile does not mind; other installers do."""
    if length != member.file_size:
        raise BadWheel(f"the archive gives another length of {member.filename[:100]!r}")


def _read_record(archive: ZipFile, path: str) -> dict[str, tuple[str, str]]:
    """RECORD as {path: (hash, size)}, both as written."""
    text = _read_bounded(archive, path, MOST_RECORD_BYTES).decode("utf-8")
    record: dict[str, tuple[str, str]] = {}
    for row in csv.reader(io.StringIO(text, newline="")):
        if not row:
            continue
        if len(row) != 3:
            raise BadWheel(f"a line of its RECORD has {len(row)} fields instead of three")
        if row[0] in record:
            raise BadWheel(f"its RECORD lists {row[0][:100]!r} twice")
        record[row[0]] = (row[1], row[2])
    return record


def _verify_members(
    archive: ZipFile, record: dict[str, tuple[str, str]], unsigned: set[str]
) -> Iterator[tuple[str, bytes]]:
    """Check every file against *record*. Yield the path and ELF header of native ones."""
    listed = set(record)
    for member in archive.infolist():
        if member.is_dir():
            continue
        path = member.filename
        listed.discard(path)
        if path in unsigned:
            continue
        if path not in record:
            raise BadWheel(f"its RECORD does not list {path[:100]!r}")
        header = _verify(archive, member, *record[path])
        if header.startswith(ELF_MAGIC):
            yield path, header
    if missing := sorted(listed - unsigned):
        raise BadWheel(f"its RECORD lists {missing[0][:100]!r}, which is not there")


def _verify(archive: ZipFile, member: ZipInfo, expected: str, size: str) -> bytes:
    """Check the content of *member*. Return its first bytes."""
    algorithm, _, digest = expected.partition("=")
    if algorithm not in STRONG_HASHES:
        raise BadWheel(f"its RECORD gives no sha256 of {member.filename[:100]!r}")
    if size and size != str(member.file_size):
        raise BadWheel(f"its RECORD gives another size of {member.filename[:100]!r}")
    actual = hashlib.new(algorithm)
    header, length = b"", 0
    with archive.open(member) as file:
        while chunk := file.read(CHUNK):
            header = header or chunk[:20]
            actual.update(chunk)
            length += len(chunk)
    _refuse_other_length(member, length)
    if base64.urlsafe_b64encode(actual.digest()).rstrip(b"=").decode() != digest.rstrip("="):
        raise BadWheel(f"its RECORD gives another hash of {member.filename[:100]!r}")
    return header


def _read_wheel(archive: ZipFile, path: str, name: WheelName) -> Message:
    """The WHEEL file, whose tags must be the filename's."""
    text = _read_bounded(archive, path, MOST_METADATA_BYTES).decode("utf-8")
    wheel = Parser().parsestr(text, headersonly=True)
    if not wheel.get("Wheel-Version", "").strip().startswith("1."):
        raise BadWheel(f"its WHEEL has no version 1: {wheel.get('Wheel-Version', '')[:20]!r}")
    tags = {tag for line in wheel.get_all("Tag", []) for tag in parse_tag(line.strip())}
    if tags != name.tags:
        raise BadWheel("the tags in its WHEEL are not those of its filename")
    return wheel


def _read_metadata(metadata: bytes, name: WheelName) -> RawMetadata:
    """The fields of METADATA, whose name and version must be the filename's."""
    fields, _ = parse_email(metadata)
    if canonicalize_name(fields.get("name", "")) != name.package:
        raise BadWheel("the name in its METADATA is not that of its filename")
    if not _is_same_version(fields.get("version", ""), str(name.version)):
        raise BadWheel("the version in its METADATA is not that of its filename")
    return fields


def _valid_specifier(text: str) -> str:
    """*text* if installers can read it; a page with any other is refused as a whole by some."""
    try:
        return str(text) if str(SpecifierSet(text)) else ""
    except InvalidSpecifier:
        return ""


def _check_native(name: WheelName, native: tuple[tuple[str, bytes], ...]) -> None:
    """Refuse native code that the filename's tags do not promise."""
    if not native:
        return
    if name.is_pure:
        raise BadWheel(f"it says it runs anywhere but holds native code: {native[0][0][:100]}")
    expected = {
        machine
        for tag in name.tags
        for suffix, machines in ELF_MACHINES.items()
        if tag.platform.endswith(f"_{suffix}")
        for machine in machines
    }
    # Some wheels carry other machines' binaries as data; none of its own is what cannot be.
    if expected and all(_machine(header) not in expected for _, header in native):
        raise BadWheel(f"its native code is for another machine: {native[0][0][:100]}")


def _machine(header: bytes) -> int:
    """The machine number in an ELF *header* (its first 20 bytes)."""
    return int.from_bytes(header[18:20], "big" if header[5:6] == b"\x02" else "little")
