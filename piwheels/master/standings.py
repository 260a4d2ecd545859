"""How the versions of a package stand, as its pages show it."""

from sqlalchemy import Connection

from piwheels.database.pages import Contents, NewestBuild, VersionRow
from piwheels.database.queue import load_targets
from piwheels.master import queue
from piwheels.model.published import Project, Release, Standing
from piwheels.model.queue import State, Verdict
from piwheels.model.targets import Target
from piwheels.rules.coverage import covers
from piwheels.rules.standings import cause_and_fix

SILENT = frozenset({State.UNWANTED})  # what nobody asked about


def project(connection: Connection, contents: Contents) -> Project:
    """What the pages of a package show."""
    verdicts = queue.standing(connection, [version.version_id for version in contents.versions])
    targets = {target.target_id: target for target in load_targets(connection)}
    releases = []
    for version in contents.versions:
        found = tuple(
            _standing(
                targets[target_id].name,
                verdict,
                contents.builds.get(version.version_id, {}).get(target_id),
                _covering_file(contents, version, targets[target_id].tags),
            )
            for target_id, verdict in sorted(
                verdicts.get(version.version_id, {}).items(),
                key=lambda item: by_rank(targets[item[0]]),
            )
            if verdict.state not in SILENT
        )
        if found:
            releases.append(_release(version, found))
    return Project(
        package=contents.name,
        display_name=contents.display_name,
        summary=contents.summary,
        files=contents.files,
        releases=tuple(releases),
    )


def by_rank(target: Target) -> tuple[int, str]:
    """The order in which targets are shown."""
    return target.rank, target.name


def _release(version: VersionRow, found: tuple[Standing, ...]) -> Release:
    return Release(version.version, version.released, version.yanked, version.skip, found)


def _covering_file(contents: Contents, version: VersionRow, tags: frozenset[str]) -> str:
    """The name of the version's file that installs on a target with these tags, or ''."""
    return next(
        (
            file.filename
            for file in contents.files
            if file.version == version.version and covers(contents.tags[file.filename], tags)
        ),
        "",
    )


def _standing(target: str, verdict: Verdict, build: NewestBuild | None, filename: str) -> Standing:
    cause, fix = cause_and_fix(verdict, build)
    return Standing(target, verdict.state, filename, build.log if build else "", cause, fix)
