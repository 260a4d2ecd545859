"""The tables ``packages``, ``package_names`` and ``versions``: what is known of PyPI's packages.

Whoever changes a version here calls master.queue.refresh with its id, at the end of the same
transaction; that also asks for the package's pages.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import Connection

from piwheels.database import projects
from piwheels.database.package_rules import wanted_versions
from piwheels.database.projects import Update
from piwheels.database.statements import statement
from piwheels.model.errors import PiwheelsError
from piwheels.model.projects import Changes, ProjectPage, ProjectVersion

SOON = timedelta(minutes=2)  # until a page is read again that may have been in a cache for long


class UnknownPackage(PiwheelsError):
    """A package that nobody ever added. The asker's fault."""


class UnknownVersion(PiwheelsError):
    """A version that the farm has never seen on PyPI. The asker's fault."""


class NameTaken(PiwheelsError):
    """A spelling that already leads to another package. The asker's fault."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package's row. skip: the reason not to build it, '' for none."""

    package_id: int
    skip: str
    summary: str


@dataclass(frozen=True, slots=True)
class Version:
    """A version's row. lane: None if nobody asked for it. skip: a reason, '' for none."""

    version_id: int
    lane: int | None
    skip: str


def get_package(connection: Connection, name: str) -> Package:
    """The package of this normalized *name*, held until the transaction ends.

    Raise UnknownPackage.
    """
    row = connection.execute(statement("versions", "package"), {"name": name}).one_or_none()
    if row is None:
        raise UnknownPackage(f"the farm does not know {name}: add it with piw-add {name}")
    return Package(*row)


def get_version(connection: Connection, package: str, version: str) -> Version:
    """The *version* of *package*, both as they are stored. Raise UnknownVersion."""
    row = connection.execute(
        statement("versions", "version"), {"package": package, "version": version}
    ).one_or_none()
    if row is None:
        raise UnknownVersion(
            f"the farm does not know {package} {version}: add it with piw-add {package} {version}"
        )
    return Version(*row)


def known(connection: Connection, package: str) -> dict[str, ProjectVersion]:
    """What is known of *package* (normalized), by version; empty if it is not known at all."""
    held = projects.hold(connection, [package])
    if package not in held:
        return {}
    package_id = held[package].package_id
    return projects.known(connection, [package_id])[package_id].versions


def enter(connection: Connection, page: ProjectPage) -> bool:
    """Make the package known, and hold it until the transaction ends; return whether it is new.

    To be called before ``known``: two writers of one package then see each other's work.
    """
    is_new = projects.enter(connection, [page]) == 1
    projects.hold(connection, [page.package])
    return is_new


def apply(connection: Connection, page: ProjectPage, changes: Changes) -> set[int]:
    """Write down *page*, which differs from what is known by *changes*.

    Return the ids of the versions that this changed; doing it again changes none. A page
    older than the one on record changes nothing. It is read again soon.
    """
    projects.enter(connection, [page])
    project = projects.hold(connection, [page.package])[page.package]
    if page.serial is not None and page.serial < project.serial:
        return set()
    seen = replace(project, display_name=page.display_name, serial=page.serial or project.serial)
    return projects.apply(connection, [Update(seen, changes, until_read=SOON, is_news=True)])


def want(connection: Connection, package: str, version: str, lane: int) -> int:
    """Ask for *version* of *package* in *lane*, or a more urgent one; return its version_id.

    Raise UnknownVersion.
    """
    version_id = get_version(connection, package, version).version_id
    connection.execute(statement("versions", "want"), {"version_id": version_id, "lane": lane})
    return version_id


def ask_again(connection: Connection, version_id: int) -> None:
    """Give a version another chance wherever it failed."""
    connection.execute(statement("versions", "ask_again"), {"version_id": version_id})


def skip_version(connection: Connection, version_id: int, reason: str) -> None:
    """Never build this version, for *reason*; '' builds it again."""
    parameters = {"version_id": version_id, "reason": reason}
    connection.execute(statement("versions", "skip_version"), parameters)


def skip_package(connection: Connection, package_id: int, reason: str) -> set[int]:
    """Never build this package, for *reason*; '' does again. Return the versions it concerns."""
    parameters = {"package_id": package_id, "reason": reason}
    connection.execute(statement("versions", "skip_package"), parameters)
    return wanted_versions(connection, package_id)


def describe(connection: Connection, package_id: int, summary: str) -> None:
    """Say in one line what this package is."""
    parameters = {"package_id": package_id, "summary": summary}
    connection.execute(statement("versions", "describe"), parameters)


def add_names(connection: Connection, package_id: int, names: Collection[str]) -> set[str]:
    """Let *names* lead to this package; return those that did not yet. Raise NameTaken."""
    parameters = {"package_id": package_id, "names": sorted(names)}
    others = connection.execute(statement("versions", "names_of_others"), parameters).all()
    if others:
        name, package = others[0]
        raise NameTaken(f"the name {name} already leads to {package}: choose another")
    present = connection.execute(statement("versions", "names"), {"package_id": package_id})
    news = set(names) - set(present.scalars())
    projects.put_names(connection, [(name, package_id) for name in names])
    return news


def active_pythons(connection: Connection) -> set[str]:
    """The full Python versions of all targets that are built for."""
    return set(connection.execute(statement("versions", "pythons")).scalars())
