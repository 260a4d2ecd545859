"""What happened on a PyPI, event by event, and what it therefore says: pure.

A History is a value. Its state at any serial is what events until then made of it; journal,
root page and project pages are read off that state as Warehouse, PyPI's own software, does.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from packaging.utils import canonicalize_name

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)  # of serial 0; a second each
API_VERSION = "1.4"

Page = dict[str, Any]
Row = tuple[str, str | None, int, str, int]  # name, version, seconds, action, serial


class Impossible(Exception):
    """PyPI would not let this happen: no such release, a filename used before, a name taken."""


@dataclass(frozen=True, slots=True)
class File:
    """A file and all that was ever said of it. serial: of its upload."""

    filename: str
    content: bytes = b""
    requires_python: str | None = None
    serial: int = 0

    @property
    def action(self) -> str:
        """What the journal says of its upload."""
        parts = self.filename.split("-")
        is_sdist = not self.filename.endswith(".whl")
        return f"add {'source' if is_sdist else parts[-3]} file {self.filename}"


@dataclass(frozen=True, slots=True)
class Release:
    """A version as it is. yanked: None, or the reason, which may be empty."""

    files: tuple[File, ...] = ()
    yanked: str | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A project as it is. name: as its owner spells it. serial: of the last row about it."""

    name: str
    serial: int
    releases: Mapping[str, Release] = field(default_factory=dict)
    status: str = "active"
    reason: str = ""

    def release(self, version: str) -> Release:
        """Raise Impossible if there is none."""
        if version not in self.releases:
            raise Impossible(f"{self.name} has no version {version}")
        return self.releases[version]

    def having(self, version: str, release: Release) -> "Project":
        return replace(self, releases={**self.releases, version: release})


Projects = Mapping[str, Project]  # by normalized name


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens to the project *name*, in whatever spelling."""

    name: str


class Created(Event):
    """Also after it was removed, perhaps under another spelling."""


@dataclass(frozen=True, slots=True)
class Released(Event):
    """A version, still without files."""

    version: str


@dataclass(frozen=True, slots=True)
class FileAdded(Event):
    """No filename is ever used again, not even after its removal."""

    version: str
    file: File


@dataclass(frozen=True, slots=True)
class FileRemoved(Event):
    version: str
    filename: str


@dataclass(frozen=True, slots=True)
class ReleaseRemoved(Event):
    version: str


class Removed(Event):
    """The whole project."""


@dataclass(frozen=True, slots=True)
class Yanked(Event):
    version: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unyanked(Event):
    version: str


@dataclass(frozen=True, slots=True)
class Quarantined(Event):
    """Its page lists nothing, the root page does not list it."""

    reason: str = ""


class Cleared(Event):
    """No longer in quarantine."""


@dataclass(frozen=True, slots=True)
class Archived(Event):
    """PyPI writes nothing into the journal: only the page tells."""

    reason: str = ""


class Unarchived(Event):
    """Nothing in the journal either."""


@dataclass(frozen=True, slots=True)
class RoleChanged(Event):
    """Of no interest to anybody who builds."""

    action: str = "add Owner somebody"


def action_of(event: Event) -> tuple[str | None, str] | None:
    """Version and action of the event's row in the journal, None if it has none."""
    match event:
        case Created():
            return None, "create"
        case Released(version=version):
            return version, "new release"
        case FileAdded(version=version, file=file):
            return version, file.action
        case FileRemoved(version=version, filename=filename):
            return version, f"remove file {filename}"
        case ReleaseRemoved(version=version):
            return version, "remove release"
        case Removed():
            return None, "remove project"
        case Yanked(version=version):
            return version, "yank release"
        case Unyanked(version=version):
            return version, "unyank release"
        case Quarantined():
            return None, "project quarantined"
        case Cleared():
            return None, "project quarantine cleared"
        case RoleChanged(action=action):
            return None, action
    return None


def after(projects: Projects, event: Event, serial: int) -> Projects:
    """What *event* makes of *projects*. Raise Impossible.

    serial: of its row, or of the last row where it has none.
    """
    package = canonicalize_name(event.name)
    project = projects.get(package)
    if isinstance(event, Created):
        if project is not None:
            raise Impossible(f"there is a project {package}")
        return {**projects, package: Project(event.name, serial)}
    if project is None:
        raise Impossible(f"there is no project {package}")
    if isinstance(event, Removed):
        return {name: projects[name] for name in projects if name != package}
    changed = _changed(project, event, serial)
    if action_of(event) is not None:
        changed = replace(changed, serial=serial)
    return {**projects, package: changed}


def _changed(project: Project, event: Event, serial: int) -> Project:
    match event:
        case Released(version=version):
            _check_absent(version in project.releases, version)
            return project.having(version, Release())
        case FileAdded(version=version, file=file):
            release = project.release(version)
            files = (*release.files, replace(file, serial=serial))
            return project.having(version, replace(release, files=files))
        case FileRemoved(version=version, filename=filename):
            release = project.release(version)
            files = tuple(file for file in release.files if file.filename != filename)
            if files == release.files:
                raise Impossible(f"there is no file {filename}")
            return project.having(version, replace(release, files=files))
        case ReleaseRemoved(version=version):
            project.release(version)
            kept = {other: project.releases[other] for other in project.releases}
            del kept[version]
            return replace(project, releases=kept)
        case Yanked(version=version, reason=reason):
            return project.having(version, replace(project.release(version), yanked=reason))
        case Unyanked(version=version):
            return project.having(version, replace(project.release(version), yanked=None))
        case Quarantined(reason=reason):
            return replace(project, status="quarantined", reason=reason)
        case Archived(reason=reason):
            return _unless_quarantined(project, "archived", reason)
        case Cleared() if project.status == "quarantined":
            return replace(project, status="active", reason="")
        case Unarchived() if project.status == "archived":
            return replace(project, status="active", reason="")
        case RoleChanged():
            return project
    raise Impossible(f"{event} while {project.name} is {project.status}")


def _check_absent(is_there: bool, what: str) -> None:
    if is_there:
        raise Impossible(f"there is {what} already")


def _unless_quarantined(project: Project, status: str, reason: str) -> Project:
    if project.status == "quarantined":
        raise Impossible(f"{project.name} is in quarantine")
    return replace(project, status=status, reason=reason)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, the serial it happened at, and what there was after it."""

    event: Event
    serial: int
    projects: Projects


@dataclass(frozen=True, slots=True)
class History:
    """All that happened, in order.

    files: all that were ever uploaded, by name, those that were removed as well.
    """

    entries: tuple[Entry, ...] = ()
    files: Mapping[str, File] = field(default_factory=dict)

    def then(self, event: Event, gap: int = 0) -> "History":
        """The history in which *event* happens next. Raise Impossible.

        gap: how many serials before it are left out: PyPI's own transactions may fail.
        """
        files = self.files
        serial = self.last_serial() + (1 + gap if action_of(event) is not None else 0)
        if isinstance(event, FileAdded):
            _check_absent(event.file.filename in files, event.file.filename)
            files = {**files, event.file.filename: event.file}
        projects = after(self.projects(), event, serial)
        return History((*self.entries, Entry(event, serial, projects)), files)

    def create(self, name: str) -> "History":
        """Create a project."""
        return self.then(Created(name))

    def release(self, name: str, version: str, *files: File) -> "History":
        """Release a version of *name*, which is created if need be, with its files."""
        history = self if canonicalize_name(name) in self.projects() else self.create(name)
        history = history.then(Released(name, version))
        for file in files:
            history = history.then(FileAdded(name, version, file))
        return history

    def add(self, name: str, version: str, file: File) -> "History":
        """Add a file to a version, which is released if need be."""
        project = self.projects().get(canonicalize_name(name))
        if project is None or version not in project.releases:
            return self.release(name, version, file)
        return self.then(FileAdded(name, version, file))

    def last_serial(self) -> int:
        """Of the last row, 0 if there is none."""
        return self.entries[-1].serial if self.entries else 0

    def projects(self, serial: int | None = None) -> Projects:
        """What there was at *serial*, by normalized name; what there is if it is None."""
        end = len(self.entries)
        if serial is not None:
            end = bisect_right(self.entries, serial, key=lambda entry: entry.serial)
        return self.entries[end - 1].projects if end else {}

    def rows(self, since: int) -> Iterator[Row]:
        """Yield the journal's rows after *since*."""
        start = bisect_right(self.entries, since, key=lambda entry: entry.serial)
        for entry in self.entries[start:]:
            said = action_of(entry.event)
            if said is not None:
                version, action = said
                seconds = int(EPOCH.timestamp()) + entry.serial
                yield entry.event.name, version, seconds, action, entry.serial

    def serials(self) -> Iterator[tuple[str, int]]:
        """Yield name and serial of each project that the root page lists."""
        projects = self.projects()
        for package in sorted(projects):
            if projects[package].status != "quarantined":
                yield projects[package].name, projects[package].serial

    def page(self, package: str, files_url: str, serial: int | None = None) -> Page | None:
        """The page of *package* (normalized) as PEP 691, 700 and 792 have it, or None.

        files_url: of the folder of all files. serial: as of which it is; None: as it is now.
        """
        project = self.projects(serial).get(package)
        return None if project is None else page_of(package, project, files_url)

    def content(self, filename: str) -> bytes | None:
        """The content of a file that was ever uploaded: PyPI keeps serving what is gone."""
        return self.files[filename].content if filename in self.files else None


def page_of(package: str, project: Project, files_url: str) -> Page:
    """The page of *project*: empty in quarantine. Versions without a file are not listed."""
    releases = {} if project.status == "quarantined" else project.releases
    status = {"status": project.status} | ({"reason": project.reason} if project.reason else {})
    return {
        "meta": {"api-version": API_VERSION, "_last-serial": project.serial},
        "name": package,
        "project-status": status,
        "alternate-locations": [],
        "versions": sorted(version for version in releases if releases[version].files),
        "files": [
            _file(file, release.yanked, files_url)
            for release in releases.values()
            for file in release.files
        ],
    }


def _file(file: File, yanked: str | None, files_url: str) -> dict[str, Any]:
    uploaded = EPOCH + timedelta(seconds=file.serial)
    return {
        "filename": file.filename,
        "url": f"{files_url}{file.filename}",
        "hashes": {"sha256": hashlib.sha256(file.content).hexdigest()},
        "size": len(file.content),
        "requires-python": file.requires_python,
        "upload-time": uploaded.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "yanked": False if yanked is None else yanked or True,
        "core-metadata": False,
    }
