"""From a page of the simple API to the versions it lists: pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pypi_simple
from mailbits import ContentType
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pypi_simple.html import RepositoryPage

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
STATUSES = frozenset(map(str, pypi_simple.ProjectStatus))  # PEP 792
JSON = "application/vnd.pypi.simple.v1+json"
HTML = ("application/vnd.pypi.simple.v1+html", "text/html")


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


def parse_page(
    package: str, url: str, headers: Mapping[str, str], body: bytes
) -> pypi_simple.ProjectPage:
    """Parse *body*, the page of *package* that was found at *url*, JSON or HTML.

    Raise ValueError, RecursionError, UnsupportedRepoVersionError. pypi-simple refuses a page
    whose status is a word of the future: such words are taken out first.
    """
    kind = ContentType.parse(headers.get("Content-Type", "text/html"))
    if kind.content_type == JSON:
        data = json.loads(body)
        if isinstance(data, dict):
            data["project-status"] = _known_status(data.get("project-status"))
        page = pypi_simple.ProjectPage.from_json_data(data, url)
    elif kind.content_type in HTML:
        page = _parse_html(package, url, body, kind.params.get("charset"))
    else:
        raise ValueError(f"the content type is {str(kind)[:100]}")
    if page.last_serial is None:
        page.last_serial = headers.get("X-PyPI-Last-Serial")
    return page


def _known_status(marker: object) -> dict[str, str]:
    match marker:
        case {"status": str(status), "reason": str(reason)} if status in STATUSES:
            return {"status": status, "reason": reason}
        case {"status": str(status)} if status in STATUSES:
            return {"status": status}
    return {}


def _parse_html(
    package: str, url: str, body: bytes, charset: str | None
) -> pypi_simple.ProjectPage:
    page = RepositoryPage.from_html(body, url, charset)
    if not STATUSES.issuperset(page.pypi_meta.get("project-status", ())):
        del page.pypi_meta["project-status"]
    return pypi_simple.ProjectPage(
        project=package,
        packages=[pypi_simple.DistributionPackage.from_link(link, package) for link in page.links],
        repository_version=page.repository_version,
        last_serial=None,
        versions=None,
        tracks=page.tracks,
        alternate_locations=page.alternate_locations,
        status=page.status,
        status_reason=page.status_reason,
    )


def read_page(package: str, page: pypi_simple.ProjectPage) -> ProjectPage:
    """Turn pypi-simple's *page* of *package* (normalized) into a value; odd files are counted."""
    files = [file for found in page.packages for file in _read_file(package, found)]
    return ProjectPage(
        package=package,
        display_name=_display_name(package, page.project),
        versions=tuple(_versions(page.versions or (), files)),
        serial=_serial(page.last_serial),
        left_out=len(page.packages) - len(files),
        status=str(page.status or pypi_simple.ProjectStatus.ACTIVE),
        status_reason=_line(page.status_reason or "") if page.status else "",
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
