"""From a page of the simple API to the versions it lists: pure."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pypi_simple
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from piwheels.model.builds import Sdist
from piwheels.model.errors import BadName
from piwheels.model.names import LONGEST_NAME, parse_wheel_name
from piwheels.model.projects import ProjectPage, ProjectVersion

SDIST_SUFFIXES = (".tar.gz", ".zip")  # best first; PyPI takes no others since PEP 527
SHA256 = re.compile(r"[0-9a-f]{64}")
URL = re.compile(r"https?://\S{1,4000}")
LONGEST_LINE = 1_000
LONGEST_VERSION = 255
LARGEST_SIZE = 2**63  # bytes; the database's limit
SERIAL = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a version, as far as it plays a part. Exactly one of sdist and tags is set."""

    version: Version
    spelling: str
    uploaded: datetime | None
    requires_python: str
    yanked: str | None
    sdist: Sdist | None = None
    tags: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Collected:
    spelling: str = ""
    files: list[_File] = field(default_factory=list)


def read_page(package: str, page: pypi_simple.ProjectPage) -> ProjectPage:
    """Turn pypi-simple's *page* of *package* (normalized) into a value; odd files are counted."""
    files = [file for found in page.packages for file in _read_file(package, found)]
    return ProjectPage(
        package=package,
        display_name=_display_name(package, page.project),
        versions=tuple(_versions(page.versions or (), files)),
        serial=_serial(page.last_serial),
        left_out=len(page.packages) - len(files),
    )


def _display_name(package: str, spelling: str) -> str:
    return spelling if canonicalize_name(spelling) == package else package


def _serial(text: str | None) -> int | None:
    return int(text) if text and SERIAL.fullmatch(text) else None


def _versions(spellings: Iterable[str], files: Iterable[_File]) -> Iterator[ProjectVersion]:
    """Bring files together under the versions that the page lists, and under those it forgot."""
    collected: dict[Version, _Collected] = {}
    for spelling in spellings:
        version = _parse_version(spelling)
        if version is not None:
            collected.setdefault(version, _Collected(spelling))
    for file in files:
        collected.setdefault(file.version, _Collected(file.spelling)).files.append(file)
    for release in collected.values():
        yield _version(release.spelling, release.files)


def _version(spelling: str, files: list[_File]) -> ProjectVersion:
    best = sorted(files, key=_rank)
    is_yanked = bool(files) and all(file.yanked is not None for file in files)
    return ProjectVersion(
        version=spelling,
        released=min((file.uploaded for file in files if file.uploaded), default=None),
        requires_python=next((file.requires_python for file in best if file.requires_python), ""),
        yanked=best[0].yanked if is_yanked else None,
        sdist=best[0].sdist if best else None,
        tags=frozenset(tag for file in files for tag in file.tags),
    )


def _rank(file: _File) -> tuple[int, str]:
    """Sdists first, the best one foremost; the name makes it definite."""
    if file.sdist is None:
        return len(SDIST_SUFFIXES), ""
    name = file.sdist.filename
    return next(i for i, end in enumerate(SDIST_SUFFIXES) if name.endswith(end)), name


def _read_file(package: str, found: pypi_simple.DistributionPackage) -> Iterator[_File]:
    """Yield *found* if it plays a part."""
    if found.filename.endswith(".whl"):
        yield from _read_wheel(package, found)
    elif found.filename.endswith(SDIST_SUFFIXES) and found.package_type == "sdist":
        yield from _read_sdist(package, found)


def _read_wheel(package: str, found: pypi_simple.DistributionPackage) -> Iterator[_File]:
    try:
        name = parse_wheel_name(found.filename)
    except BadName:
        return
    if name.package == package and len(str(name.version)) <= LONGEST_VERSION:
        yield _file(found, name.version, str(name.version), tags=name.tag_names)


def _read_sdist(package: str, found: pypi_simple.DistributionPackage) -> Iterator[_File]:
    """Old sdists are named freely: only pypi-simple, given the package, can part their names."""
    sha256 = found.digests.get("sha256", "").lower()
    version = _parse_version(found.version or "")
    is_sound = (
        version is not None
        and canonicalize_name(found.project or "") == package
        and len(found.filename) <= LONGEST_NAME
        and not re.search(r"[\s/]", found.filename)
        and SHA256.fullmatch(sha256)
        and URL.fullmatch(found.url)
    )
    if is_sound and version is not None:
        size = found.size if found.size is not None and 0 <= found.size < LARGEST_SIZE else None
        sdist = Sdist(found.filename, found.url, sha256, size)
        yield _file(found, version, found.version or "", sdist=sdist)


def _file(
    found: pypi_simple.DistributionPackage,
    version: Version,
    spelling: str,
    sdist: Sdist | None = None,
    tags: frozenset[str] = frozenset(),
) -> _File:
    return _File(
        version=version,
        spelling=spelling,
        uploaded=_moment(found.upload_time),
        requires_python=_line(found.requires_python or ""),
        yanked=_line(found.yanked_reason or "") if found.is_yanked else None,
        sdist=sdist,
        tags=tags,
    )


def _parse_version(text: str) -> Version | None:
    if len(text) > LONGEST_VERSION or text != text.strip():
        return None
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _moment(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def _line(text: str) -> str:
    """Keep what fits on a line and what PostgreSQL can store: no NUL, no lone surrogates."""
    storable = text.replace("\0", "").encode("utf-8", "replace").decode()
    return " ".join(storable.split())[:LONGEST_LINE]
