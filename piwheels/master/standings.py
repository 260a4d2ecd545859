"""How the versions of a package stand, as pages and administrators' tools show it."""

from sqlalchemy import Connection

from piwheels.database.pages import Contents, NewestBuild, VersionRow
from piwheels.database.queue import load_targets
from piwheels.master import queue
from piwheels.model.published import Project, Release, Standing
from piwheels.model.queue import State, Verdict
from piwheels.rules.coverage import covers

SILENT = frozenset({State.UNWANTED})  # what nobody asked about


def project(connection: Connection, contents: Contents) -> Project:
    """What the pages of a package show."""
    verdicts = queue.standing(connection, [version.version_id for version in contents.versions])
    targets = {target.target_id: target for target in load_targets(connection)}
    releases = []
    for version in contents.versions:
        standings = tuple(
            _standing(
                targets[target_id].name,
                verdict,
                contents.builds.get(version.version_id, {}).get(target_id),
                _covering_file(contents, version, targets[target_id].tags),
            )
            for target_id, verdict in sorted(
                verdicts.get(version.version_id, {}).items(),
                key=lambda item: (targets[item[0]].rank, targets[item[0]].name),
            )
            if verdict.state not in SILENT
        )
        if standings:
            releases.append(_release(version, standings))
    return Project(
        package=contents.name,
        display_name=contents.display_name,
        summary=contents.summary,
        files=contents.files,
        releases=tuple(releases),
    )


def _release(version: VersionRow, standings: tuple[Standing, ...]) -> Release:
    return Release(version.version, version.released, version.yanked, version.skip, standings)


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
    """A failure is told for as long as it stands in the way, with its log."""
    log_path = build.log if build else ""
    if build is None or build.outcome != "failure" or verdict.state is State.DONE:
        return Standing(target, verdict.state, filename, log_path, verdict.reason)
    return Standing(target, verdict.state, filename, log_path, build.cause, build.fix)
