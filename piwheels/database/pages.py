"""What the public pages show, and the jobs of writing them.

A job is locked for the transaction in which its pages are written, and deleted at its end
unless it was asked for again meanwhile. A crash in between leaves it as it was.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from packaging.version import InvalidVersion, Version
from sqlalchemy import Connection

from piwheels.database.statements import statement
from piwheels.model.projects import Status
from piwheels.model.published import PublishedFile

CALM = 2.0  # seconds between two writings of a page of the whole site


@dataclass(frozen=True, slots=True)
class PageJob:
    """The need to write the public files of one package. attempts: that failed so far."""

    package_id: int
    reason: str
    requested: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class SiteJob:
    """The need to write a page of no single package: simple, or home."""

    page: str
    requested: datetime


@dataclass(frozen=True, slots=True)
class NewestBuild:
    """The newest build of a version on a target. log: its public path."""

    outcome: str
    kind: str
    cause: str
    fix: str
    log: str


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version of a package."""

    version_id: int
    version: str
    released: datetime | None
    yanked: str | None
    skip: str


@dataclass(frozen=True, slots=True)
class Contents:
    """All that the database has of one package's pages. versions, files: newest first.

    tags: of each file, by name. builds: the newest, by version_id and target_id. status: of
    the project on PyPI.
    """

    name: str
    display_name: str
    summary: str
    versions: tuple[VersionRow, ...]
    files: tuple[PublishedFile, ...]
    tags: dict[str, frozenset[str]]
    builds: dict[int, dict[int, NewestBuild]]
    status: Status = Status.ACTIVE


@dataclass(frozen=True, slots=True)
class PackageCounts:
    """A line of the home page."""

    name: str
    display_name: str
    summary: str
    files: int
    failed: int
    waiting: int


def next_job(connection: Connection) -> PageJob | None:
    """Lock the job that has waited longest and that no other publisher has, or None."""
    for package_id in connection.execute(statement("pages", "candidates")).scalars().all():
        key = {"package_id": package_id}
        if connection.execute(statement("pages", "lock_package"), key).scalar_one():
            row = connection.execute(statement("pages", "job"), key).one_or_none()
            if row is not None:
                return PageJob(**row._mapping)
    return None


def done(connection: Connection, job: PageJob, is_listed: bool) -> None:
    """The pages of *job* are written; is_listed: and the package has a simple page.

    The pages of the whole site that show it are asked for.
    """
    parameters = {"package_id": job.package_id, "requested": job.requested}
    connection.execute(statement("pages", "done"), parameters)
    listing = {"package_id": job.package_id, "listed": is_listed}
    if connection.execute(statement("pages", "list_package"), listing).one_or_none():
        request_site_page(connection, "simple")
    request_site_page(connection, "home")


def put_off(connection: Connection, job: PageJob, seconds: float) -> None:
    """The pages of *job* cannot be written: try again in *seconds*."""
    parameters = {
        "package_id": job.package_id,
        "requested": job.requested,
        "seconds": seconds,
    }
    connection.execute(statement("pages", "put_off"), parameters)


def request_site_page(connection: Connection, page: str) -> None:
    """Ask for a page of no single package: simple, or home."""
    parameters = {"page": page, "calm": CALM}
    connection.execute(statement("pages", "request_site_page"), parameters)


def next_site_job(connection: Connection) -> SiteJob | None:
    """Lock the need for a page of no single package that is due, or None."""
    row = connection.execute(statement("pages", "site_job")).one_or_none()
    return None if row is None else SiteJob(**row._mapping)


def site_done(connection: Connection, job: SiteJob) -> None:
    """The page of *job* is written; if it was asked for again meanwhile, then soon again."""
    parameters = {"page": job.page, "requested": job.requested}
    connection.execute(statement("pages", "site_done"), parameters)
    connection.execute(statement("pages", "site_again"), {"page": job.page, "calm": CALM})


def contents(connection: Connection, package_id: int) -> Contents | None:
    """What the pages of a package show, or None if there is no such package."""
    key = {"package_id": package_id}
    package = connection.execute(statement("pages", "package"), key).one_or_none()
    if package is None:
        return None
    files = connection.execute(statement("pages", "files"), key).mappings().all()
    versions = connection.execute(statement("pages", "versions"), key).mappings()
    builds: dict[int, dict[int, NewestBuild]] = defaultdict(dict)
    for row in connection.execute(statement("pages", "newest_builds"), key).mappings():
        builds[row["version_id"]][row["target_id"]] = NewestBuild(
            row["outcome"], row["kind"], row["cause"], row["fix"], row["log"]
        )
    return Contents(
        name=package.name,
        display_name=package.display_name,
        summary=package.summary,
        versions=tuple(
            sorted((VersionRow(**row) for row in versions), key=_newest_first, reverse=True)
        ),
        files=tuple(sorted(map(_file, files), key=_newest_first, reverse=True)),
        tags={row["filename"]: frozenset(row["tags"]) for row in files},
        builds=builds,
        status=Status(package.status),
    )


def describe_site(connection: Connection, described: Mapping[str, str]) -> None:
    """Tell how pages speak of the farm; if that is news, all of them must be written."""
    parameters = {"described": json.dumps(described)}
    if connection.execute(statement("pages", "describe_site"), parameters).one_or_none():
        connection.execute(statement("pages", "all_pages"), {"reason": "the site changed"})
        request_site_page(connection, "home")


def listed_packages(connection: Connection) -> list[str]:
    """The normalized names of all packages that have a simple page, sorted."""
    return list(connection.execute(statement("pages", "listed_packages")).scalars())


def overview(connection: Connection, limit: int) -> list[PackageCounts]:
    """The first *limit* packages that have a file or that anybody asked for, by name."""
    rows = connection.execute(statement("pages", "overview"), {"limit": limit})
    return [PackageCounts(**row._mapping) for row in rows]


def _file(row: Any) -> PublishedFile:
    return PublishedFile(
        filename=row["filename"],
        version=row["version"],
        size=row["size"],
        sha256=row["sha256"],
        metadata_sha256=row["metadata_sha256"],
        requires_python=row["requires_python"],
        published=row["published"],
        yanked=row["yanked"],
    )


def _newest_first(item: VersionRow | PublishedFile) -> tuple[bool, Version | str]:
    """Versions that are not PEP 440 come last, by their text."""
    try:
        return True, Version(item.version)
    except InvalidVersion:
        return False, item.version
