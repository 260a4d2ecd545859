"""What piw-target asks of the admin service.

A change of a target concerns millions of versions: it is entered at once, and the keeper
brings the queue in line from there.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection

from piwheels.database import package_rules, targets
from piwheels.database.queue import judge_all_again
from piwheels.database.targets import TargetRow
from piwheels.master.judging import bring_in_line
from piwheels.master.reasons import UnknownHere, find_version, unknown_target
from piwheels.model.errors import PiwheelsError
from piwheels.model.targets import TargetOffer
from piwheels.protocol.admin import (
    AddTarget,
    Changed,
    ChangeTargets,
    LaneLength,
    ListTargets,
    SkipOnTarget,
    TargetList,
    TargetStatus,
)
from piwheels.rules.targets import default_rank


class TargetThere(PiwheelsError):
    """A target that is to be new and is not. The asker's fault."""


def list_targets(connection: Connection, _: ListTargets) -> TargetList:
    """All targets and how much waits for each."""
    lanes: dict[int, dict[int, dict[bool, int]]] = {}
    for found in targets.lengths(connection):
        of_lane = lanes.setdefault(found.target_id, {}).setdefault(found.lane, {})
        of_lane[found.ready] = found.waiting
    return TargetList(
        tuple(
            _status(target, lanes.get(target.pop("target_id"), {}))
            for target in targets.all_targets(connection)
        )
    )


def _status(target: dict[str, Any], lanes: dict[int, dict[bool, int]]) -> TargetStatus:
    lengths = tuple(
        LaneLength(lane, length.get(True, 0), length.get(False, 0))
        for lane, length in sorted(lanes.items())
    )
    return TargetStatus(
        **target,
        ready=sum(length.ready for length in lengths),
        later=sum(length.later for length in lengths),
        lanes=lengths,
    )


def add_target(connection: Connection, asked: AddTarget) -> Changed:
    """Enter a target before any slave offers it. Raise TargetThere."""
    offer = TargetOffer(asked.name, asked.label, asked.python, asked.tags)
    rank = default_rank(asked.python) if asked.rank is None else asked.rank
    if not targets.add(connection, offer, rank, asked.is_active):
        raise TargetThere(
            f"there is a target {asked.name} already: change it with piw-target rank, label, "
            "activate or deactivate"
        )
    if asked.is_active:
        judge_all_again(connection)
    return Changed((asked.name,))


def change_targets(connection: Connection, asked: ChangeTargets) -> Changed:
    """Change all the targets that are named, or none. Raise UnknownHere."""
    rows = _locked(connection, asked.targets)
    numbers = [row.target_id for row in rows]
    changed = targets.change(connection, numbers, asked.is_active, asked.rank, asked.label or None)
    if changed and (asked.is_active is not None or asked.rank is not None):
        judge_all_again(connection)
    waiting = sum(
        length.waiting for length in targets.lengths(connection) if length.target_id in numbers
    )
    # In the order in which they were named, each once.
    names = tuple(name for name in dict.fromkeys(asked.targets) if name in changed)
    return Changed(names, waiting)


def skip_on_target(connection: Connection, asked: SkipOnTarget) -> Changed:
    """Skip a package or a version on one target, or do so no more. Raise UnknownHere."""
    (target,) = _locked(connection, [asked.target])
    package, version = find_version(connection, asked.package, asked.version)
    number = version.version_id if version else None
    if not targets.skip(connection, target.target_id, package.package_id, number, asked.reason):
        return Changed(())
    if version is not None:
        bring_in_line(connection, {version.version_id})
    else:
        bring_in_line(connection, package_rules.wanted_versions(connection, package.package_id))
    name = f"{package.name} {version.version}" if version else package.name
    return Changed((name,))


def _locked(connection: Connection, names: Collection[str]) -> list[TargetRow]:
    """The rows of these targets. Raise UnknownHere if one is not there."""
    rows = targets.lock(connection, names)
    for name in names:
        if name not in {row.name for row in rows}:
            raise UnknownHere(unknown_target(name, targets.names(connection)))
    return rows
