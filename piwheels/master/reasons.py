"""Why a version stands as it does: all that is known of it, for piw-why and its like."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from packaging.version import InvalidVersion
from packaging.version import Version as Pep440
from sqlalchemy import Connection

from piwheels.database import standings
from piwheels.database.queue import load_targets
from piwheels.database.standings import FoundPackage
from piwheels.master import queue
from piwheels.master.standings import SILENT, by_rank
from piwheels.model.errors import BadName, PiwheelsError
from piwheels.model.names import normalize
from piwheels.model.queue import Verdict
from piwheels.model.standings import FullStanding, KnownVersion
from piwheels.model.targets import Target
from piwheels.protocol.admin import (
    InLine,
    InProgress,
    Look,
    OtherVersion,
    Reasons,
    Standings,
    TargetStanding,
    Why,
)
from piwheels.rules.coverage import covers
from piwheels.rules.resources import LARGEST_SIZE
from piwheels.rules.spelling import did_you_mean, one_letter_off
from piwheels.rules.standings import (
    begins,
    cause_and_fix,
    ends,
    in_words,
    lane_in_words,
    next_step,
    obstacle,
)

MOST_COUNTED = 100_000  # rows of a queue that are counted to say how many come first
MOST_FILES = 100


class UnknownHere(PiwheelsError):
    """A package, version or target that the farm does not know. The asker's fault."""


def look(connection: Connection, asked: Look) -> Standings:
    """How one version stands on each target; on none if nobody knows it."""
    package = standings.find_package(connection, asked.package, ())
    if package is None:
        return Standings(())
    known = standings.versions(connection, package.package_id)
    return Standings(
        tuple(
            found
            for version in known
            if version.version == asked.version
            for found in _all_of_version(connection, package, version)
            if found.state not in SILENT
        )
    )


def why(connection: Connection, asked: Why) -> Reasons:
    """Why a package stands as it does. Raise UnknownHere."""
    package = _find_package(connection, asked.package)
    known = sorted(standings.versions(connection, package.package_id), key=_age, reverse=True)
    if not known:
        raise UnknownHere(
            f"the farm knows no version of {package.name}: ask for it with piw-add {package.name}"
        )
    chosen = _choose(package, known, asked.version)
    others = [] if asked.version else [version for version in known if version is not chosen]
    shown = others[: asked.most]
    return Reasons(
        package.name,
        chosen.version,
        chosen.released,
        tuple(_all_of_version(connection, package, chosen, asked.target)),
        tuple(_others(connection, shown)),
        unshown=len(others) - len(shown),
    )


def find_version(
    connection: Connection, spelling: str, version: str
) -> tuple[FoundPackage, KnownVersion | None]:
    """The package that *spelling* means, and its *version*; '': of the package only.

    Raise UnknownHere.
    """
    package = _find_package(connection, spelling)
    if not version:
        return package, None
    return package, _choose(package, standings.versions(connection, package.package_id), version)


def _find_package(connection: Connection, spelling: str) -> FoundPackage:
    try:
        name = normalize(spelling)
    except BadName as error:
        raise UnknownHere(str(error)) from error
    package = standings.find_package(connection, name, {name, spelling})
    if package is None:
        near = standings.near_names(connection, name, one_letter_off(name))
        hint = did_you_mean(name, near)
        raise UnknownHere(
            f"the farm does not know {name}: {hint + ' Else ' if hint else ''}"
            f"ask for it with piw-add {name}"
        )
    return package


def _choose(package: FoundPackage, known: list[KnownVersion], version: str) -> KnownVersion:
    """The *version*, as it is spelled or as PEP 440 compares; '': see protocol.admin.Why."""
    if not version:
        return next((each for each in known if each.lane is not None), known[0])
    for is_it in (lambda each: each.version == version, lambda each: _is_same(each, version)):
        if found := next(filter(is_it, known), None):
            return found
    hint = did_you_mean(version, (each.version for each in known))
    raise UnknownHere(
        f"the farm does not know {package.name} {version}: {hint + ' Else ' if hint else ''}"
        f"ask for it with piw-add {package.name} {version}"
    )


def _is_same(known: KnownVersion, version: str) -> bool:
    try:
        return Pep440(known.version) == Pep440(version)
    except InvalidVersion:
        return False


def _age(version: KnownVersion) -> tuple[bool, Pep440 | str]:
    """Versions that are not PEP 440 come before all others, by their text."""
    try:
        return True, Pep440(version.version)
    except InvalidVersion:
        return False, version.version


def _others(connection: Connection, versions: Collection[KnownVersion]) -> Iterable[OtherVersion]:
    verdicts = queue.standing(connection, [version.version_id for version in versions])
    for version in versions:
        states = Counter(
            str(verdict.state) for verdict in verdicts.get(version.version_id, {}).values()
        )
        yield OtherVersion(version.version, version.released, dict(states.most_common()))


def _all_of_version(
    connection: Connection, package: FoundPackage, version: KnownVersion, only: str = ""
) -> Iterable[TargetStanding]:
    """On every active target, or on the one that is named. Raise UnknownHere."""
    targets = load_targets(connection)
    if only:
        _check_target(targets, only)
    verdicts = queue.standing(connection, [version.version_id])[version.version_id]
    now = standings.now(connection)
    for standing in _full_standings(connection, package, version, targets, verdicts):
        if only in ("", standing.target.name):
            yield _told(standing, now)


def _check_target(targets: Collection[Target], name: str) -> None:
    known = {target.name: target for target in targets}
    if name not in known:
        raise UnknownHere(unknown_target(name, known))
    if not known[name].active:
        raise UnknownHere(f"nothing is built for {name}: say piw-target activate {name}")


def unknown_target(name: str, known: Collection[str]) -> str:
    """What to say of a target that is not there."""
    hint = did_you_mean(name, known) or (
        f"there are {', '.join(sorted(known))}" if known else "a slave that comes brings its own"
    )
    return f"there is no target {name}: {hint}"


def _full_standings(
    connection: Connection,
    package: FoundPackage,
    version: KnownVersion,
    targets: Collection[Target],
    verdicts: Mapping[int, Verdict],
) -> Iterable[FullStanding]:
    """Everything that is known of a version on each target, by rank."""
    attempts = standings.attempts(connection, version.version_id)
    wheels = standings.wheels(connection, version.version_id)
    running = standings.running(connection, version.version_id)
    places = standings.places(connection, version.version_id, LARGEST_SIZE, MOST_COUNTED)
    slaves = standings.slaves(connection) if places else []
    paces = standings.paces(connection) if places else {}
    unskips = _unskips(connection, package, version)
    for target in sorted((each for each in targets if each.target_id in verdicts), key=by_rank):
        number = target.target_id
        yield FullStanding(
            package.name,
            version.version,
            target,
            verdicts[number],
            attempts.get(number),
            tuple(wheel for wheel in wheels if covers(wheel.tags, target.tags)),
            running.get(number),
            places.get(number),
            tuple(slave for slave in slaves if slave.target_id == number),
            paces.get(number),
            unskips.get(number) or unskips.get(None, ""),
        )


def _unskips(
    connection: Connection, package: FoundPackage, version: KnownVersion
) -> dict[int | None, str]:
    """The commands that undo skips, by target_id; None: on all targets."""
    name = f"{package.name} {version.version}"
    found: dict[int | None, str] = {}
    if version.skip:
        found[None] = f"piw-add {name} --unskip"
    if package.skip:
        found[None] = f"piw-add {package.name} --unskip"
    names = {target.target_id: target.name for target in load_targets(connection)}
    for skip in standings.target_skips(connection, package.package_id, version.version_id):
        what = name if skip.is_of_version else package.name
        found[skip.target_id] = f"piw-target unskip {names[skip.target_id]} {what}"
    return found


def _told(standing: FullStanding, now: datetime) -> TargetStanding:
    cause, fix = cause_and_fix(standing.verdict, standing.attempt)
    attempt, wheels = standing.attempt, standing.wheels
    told = TargetStanding(
        target=standing.target.name,
        state=standing.verdict.state,
        filename=wheels[0].filename if wheels else "",
        log=attempt.log if attempt else "",
        cause=cause,
        fix=fix,
        words=in_words(standing, now),
        next_step=next_step(standing, now),
        attempts=standing.verdict.attempts,
        files=tuple(wheel.filename for wheel in wheels[:MOST_FILES]),
        published=wheels[0].published if wheels else None,
        building=_in_progress(standing),
        waiting=_in_line(standing, now),
    )
    if attempt is None or cause != attempt.cause:
        return told
    return replace(told, kind=attempt.kind, ended=attempt.ended)


def _in_progress(standing: FullStanding) -> InProgress | None:
    running = standing.running
    if running is None:
        return None
    return InProgress(running.slave, running.phase, running.since, ends(standing))


def _in_line(standing: FullStanding, now: datetime) -> InLine | None:
    place = standing.place
    if place is None:
        return None
    return InLine(
        lane=lane_in_words(place.lane),
        ahead=place.ahead if place.not_before is None else None,
        is_more=place.is_more,
        not_before=place.not_before,
        begins=begins(standing, now),
        obstacle=obstacle(standing, now)[0],
    )
