"""What piw-add asks of the admin service: to build a package, or never to."""

from dataclasses import asdict

from sqlalchemy import Connection

from piwheels.database import package_rules, projects, versions
from piwheels.master.judging import bring_in_line
from piwheels.master.queue import standing
from piwheels.model.projects import ProjectPage, ProjectVersion
from piwheels.model.queue import Lane, State
from piwheels.protocol.admin import Add, Added
from piwheels.rules.following import lane_of
from piwheels.rules.project_diff import admitted, choose, diff, suits_any

LONGEST_LINE = 1_000  # characters: protocol.fields.Line


class Adding:
    """One request of piw-add, within one transaction. changed: versions, by id."""

    def __init__(self, connection: Connection, request: Add, page: ProjectPage) -> None:
        self.connection = connection
        self.request = request
        self.page = page
        self.is_news = False
        self.changed: set[int] = set()
        self.warnings: list[str] = []

    def run(self) -> Added:
        """Do it. Raise PiwheelsError; nothing has changed then, once it is rolled back."""
        self._enter()
        before = versions.get_package(self.connection, self.page.package)
        self.package_id = before.package_id
        self._describe(before.summary)
        concerns_version = bool(self.request.specifier) or not self.request.skip
        version = self._add_version() if concerns_version else ""
        if self.request.skip is not None and not self.request.specifier:
            self._skip_package(before.skip, self.request.skip)
        self._set_rules()
        bring_in_line(self.connection, self.changed)
        if self.is_news:
            projects.request_pages(self.connection, [self.package_id], "piw-add")
        if version:
            self._warn_of_skips(version)
        return Added(self.page.package, version, self.is_news, _cut(self.warnings))

    def _enter(self) -> None:
        self.is_news = versions.enter(self.connection, self.page)
        if self.is_news and not self.page.versions:
            self.warnings.append(f"{self.page.package} is new here, and PyPI was not asked for it")

    def _describe(self, summary: str) -> None:
        request = self.request
        if request.description not in ("", summary):
            self.is_news = True
            versions.describe(self.connection, self.package_id, request.description)
        if request.aliases:
            news = versions.add_names(self.connection, self.package_id, request.aliases)
            self.is_news |= bool(news)

    def _add_version(self) -> str:
        """Write down what PyPI says, and want or skip the version that it comes to."""
        pythons = versions.active_pythons(self.connection)
        chosen = choose(self.page, self.request.specifier, pythons)
        self._warn_of_choice(chosen, pythons)
        changes = diff(versions.known(self.connection, self.page.package), self.page)
        self._note(versions.apply(self.connection, self.page, changes))
        known = versions.get_version(self.connection, self.page.package, chosen.version)
        if self.request.skip is not None and self.request.specifier:
            self._skip_version(known, self.request.skip)
        if not (self.request.skip or self.request.specifier or self.request.is_once):
            self._follow()
        if not self.request.skip and (known.lane is None or known.lane > Lane.MANUAL):
            versions.want(self.connection, self.page.package, chosen.version, Lane.MANUAL)
            self._note({known.version_id})
        elif not self.request.skip and self._has_failed(known.version_id):
            versions.ask_again(self.connection, known.version_id)
            self._note({known.version_id})
        return chosen.version

    def _follow(self) -> None:
        """From now on all versions are wanted, those there are in the backlog."""
        since = projects.follow(self.connection, self.package_id, self.request.rules.policy)
        if since is None:
            return
        self.is_news = True
        unwanted = projects.known(self.connection, [self.package_id])[self.package_id].unwanted
        lanes = {
            version.version: lane_of(version, since, is_news=False)
            for version in self.page.versions
            if version.version in unwanted
        }
        self._note(projects.want(self.connection, self.package_id, lanes))

    def _has_failed(self, version_id: int) -> bool:
        """Whether some target gave up on it, or tries again only later."""
        verdicts = standing(self.connection, [version_id])[version_id].values()
        return any(
            verdict.state in (State.FAILED, State.HELD) or verdict.attempts > 0
            for verdict in verdicts
        )

    def _skip_version(self, version: versions.Version, reason: str) -> None:
        if version.skip != reason:
            versions.skip_version(self.connection, version.version_id, reason)
            self._note({version.version_id})

    def _skip_package(self, old: str, reason: str) -> None:
        if old != reason:
            self.is_news = True
            self._note(versions.skip_package(self.connection, self.package_id, reason))

    def _set_rules(self) -> None:
        if package_rules.change(self.connection, self.package_id, **asdict(self.request.rules)):
            self.is_news = True
            self._note(package_rules.wanted_versions(self.connection, self.package_id))

    def _note(self, changed: set[int]) -> None:
        self.changed |= changed
        self.is_news |= bool(changed)

    def _warn_of_choice(self, chosen: ProjectVersion, pythons: set[str]) -> None:
        """Say what may surprise: a newer version passed over, a version nobody can build."""
        newest = admitted(self.page, self.request.specifier)[0]
        if newest != chosen:
            lack = f"no target has a Python {newest.requires_python}"
            lack = lack if newest.sdist else "PyPI has only wheels of it"
            self.warnings.append(f"{newest.version} is newer, but {lack}")
        if not pythons:
            self.warnings.append("no target is active: it will wait for the first slave")
        elif not suits_any(chosen, pythons):
            self.warnings.append(f"it needs a Python {chosen.requires_python}: no target has one")

    def _warn_of_skips(self, version: str) -> None:
        """Say so if it was asked for, but will not be built."""
        package = self.page.package
        reason = versions.get_package(self.connection, package).skip
        if reason and not self.request.skip:
            self.warnings.append(
                f"{package} is skipped: {reason}; to build it, say piw-add {package} --unskip"
            )
        reason = versions.get_version(self.connection, package, version).skip
        if reason and not self.request.skip:
            self.warnings.append(
                f"{package} {version} is skipped: {reason}; to build it, "
                f"say piw-add {package} {version} --unskip"
            )


def _cut(lines: list[str]) -> tuple[str, ...]:
    return tuple(line[:LONGEST_LINE] for line in lines)
