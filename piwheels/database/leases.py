"""Slaves, and the leases they hold: granting, extending, ending, committing.

Every function works within the caller's transaction, and for many slaves at once: the
dispatcher does what has arrived in one turn. Where one changes what the queue's rule asks,
its docstring says so: the caller then refreshes those versions.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from piwheels.database import tag_sets
from piwheels.database.queue import judge_again, judge_all_again
from piwheels.database.statements import statement
from piwheels.database.tag_sets import TagSets
from piwheels.model.builds import FailureClass, Sdist
from piwheels.model.slaves import Slave
from piwheels.model.targets import TargetOffer


@dataclass(frozen=True, slots=True)
class Machine:
    """What a slave runs on. memory, disk: bytes in all. size: see rules.resources.

    run: of the process that speaks as it. image: a digest of what is installed, '' unknown.
    """

    cores: int
    memory: int
    disk: int
    sandbox: str
    size: int = 0
    run: bytes = b""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of life of a slave, and how it is: bytes free, None where it does not say.

    unfit: why it gets no work as it is, or ''.
    """

    slave_id: int
    memory_free: int | None = None
    disk_free: int | None = None
    load: float = 0.0
    temperature: float | None = None
    unfit: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat for a lease. run: None if any process of the slave may give it."""

    token: bytes
    slave_id: int
    run: bytes | None
    phase: str = "back"
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that a slave holds."""

    build_id: int
    token: bytes
    version_id: int


@dataclass(frozen=True, slots=True)
class Asker:
    """A slave that asks for work *now*. run: of the process that speaks as it.

    is_active: whether anything is built for its target. build_id, version_id: of what it
    holds and has not reported, or None.
    """

    slave: Slave
    run: bytes
    is_active: bool
    build_id: int | None
    version_id: int | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """What a lease asks for. pypi_tags: of PyPI's own wheels of the version.

    seconds: what builds of the package usually take, 0 if unknown. failures: those of the
    version on this target that count. network: whether the package's builds may use it.
    """

    token: bytes
    build_id: int
    slave_id: int
    package: str
    version: str
    released: datetime | None
    sdist: Sdist
    pypi_tags: frozenset[str]
    network: bool
    seconds: float
    failures: tuple[FailureClass, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """A lease that ends, and what its slave said of that: None if nothing yet.

    size: of the slave; blame, quarantines: of the slave, see rules.slave_health; failures: of
    the package, in a row. usual_seconds, usual_memory: of builds of the package, or None.
    lost_before: other slaves that were lost with this version.
    """

    build_id: int
    token: bytes
    version_id: int
    target_id: int
    slave_id: int
    package_id: int
    report: dict[str, Any] | None
    label: str
    size: int
    blame: int
    quarantines: int
    failures: int
    usual_seconds: float | None
    usual_memory: int | None
    lost_before: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a lease. placed: what the receiver found, once it lies in the web tree."""

    build_id: int
    name: str
    placed: dict[str, Any] | None
    refused: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What builds of a package on a target take. peak_memory: bytes. size: of slave."""

    package_id: int
    target_id: int
    seconds: float
    peak_memory: int
    size: int


@dataclass(frozen=True, slots=True)
class Blamed:
    """A slave's record; see rules.slave_health. seconds: of a new quarantine, or None."""

    slave_id: int
    blame: int
    quarantines: int
    seconds: float | None


# Slaves and targets


def put_target(connection: Connection, offer: TargetOffer, rank: int, active: bool) -> int:
    """Enter a target, or its new Python and tags; return its number.

    rank and active count for a new one only: they are the operator's. What changed is judged
    again.
    """
    parameters = {
        "name": offer.name,
        "label": offer.label,
        "python": offer.python,
        "rank": rank,
        "active": active,
        "tag_set_id": tag_sets.number(connection, offer.tags),
    }
    news = connection.execute(statement("leases", "put_target"), parameters).one_or_none()
    if news is not None:
        judge_all_again(connection)
        return int(news.target_id)
    known = connection.execute(statement("leases", "target"), {"name": offer.name})
    return int(known.scalar_one())


def runs(connection: Connection, label: str) -> tuple[bytes, set[bytes]]:
    """Of the processes that spoke as this slave: the newest, and some before it.

    Locks the slave until the transaction ends. b"" for one that was never here.
    """
    row = connection.execute(statement("leases", "runs"), {"label": label}).one_or_none()
    return (b"", set()) if row is None else (bytes(row.run), set(map(bytes, row.past_runs)))


def put_slave(connection: Connection, label: str, target_id: int, machine: Machine) -> int:
    """Enter a slave that said HELLO; return its number.

    What failed before for want of something that it has is judged again.
    """
    parameters = {
        "label": label,
        "target_id": target_id,
        "cores": machine.cores,
        "memory": machine.memory,
        "disk": machine.disk,
        "sandbox": machine.sandbox,
        "run": machine.run,
        "size": machine.size,
        "image": machine.image,
    }
    slave_id = int(connection.execute(statement("leases", "put_slave"), parameters).scalar_one())
    if connection.execute(statement("leases", "grow_target"), parameters).one_or_none():
        _give_chances(connection, target_id, FailureClass.OUT_OF_MEMORY)
    if (
        machine.image
        and connection.execute(statement("leases", "put_image"), parameters).one_or_none()
    ):
        connection.execute(statement("leases", "begin_image"), {"target_id": target_id})
        _give_chances(connection, target_id, FailureClass.MISSING_TOOL)
    return slave_id


def _give_chances(connection: Connection, target_id: int, kind: FailureClass) -> None:
    parameters = {"target_id": target_id, "kind": kind.value}
    found = connection.execute(statement("leases", "failed_for"), parameters)
    if version_ids := found.scalars().all():
        judge_again(connection, version_ids)


def seen(connection: Connection, signs: Collection[Sign]) -> None:
    """Enter signs of life, at most one of each slave."""
    parameters = {
        "slave_ids": [sign.slave_id for sign in signs],
        "memory_free": [sign.memory_free for sign in signs],
        "disk_free": [sign.disk_free for sign in signs],
        "loads": [sign.load for sign in signs],
        "temperatures": [sign.temperature for sign in signs],
        "unfit": [sign.unfit for sign in signs],
    }
    connection.execute(statement("leases", "seen"), parameters)


def gone(connection: Connection, slave_id: int, run: bytes) -> bool:
    """Enter that a slave left; False if another process speaks as this slave by now."""
    parameters = {"slave_id": slave_id, "run": run}
    return connection.execute(statement("leases", "gone"), parameters).one_or_none() is not None


def held(connection: Connection, slave_id: int) -> list[Held]:
    """The leases a slave holds."""
    rows = connection.execute(statement("leases", "held"), {"slave_id": slave_id})
    return [Held(row.build_id, bytes(row.token), row.version_id) for row in rows]


# Granting


def asking(connection: Connection, slave_ids: Iterable[int]) -> dict[int, Asker]:
    """What bears on whether these slaves get work, by slave_id."""
    parameters = {"slave_ids": list(slave_ids)}
    rows = connection.execute(statement("leases", "asking"), parameters).all()
    return {
        row.slave_id: Asker(
            Slave(
                row.slave_id,
                row.label,
                row.target_id,
                row.size,
                row.present,
                row.last_seen,
                row.wish,
                row.quarantined,
                row.unfit,
            ),
            bytes(row.run),
            row.is_active,
            row.build_id,
            row.version_id,
            row.now,
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class Alike:
    """Slaves of one target and size that are free, and the lanes they take from, both included.

    askers: slave_id and the token of its lease; the first gets the best.
    """

    target_id: int
    size: int
    askers: tuple[tuple[int, bytes], ...]
    first_lane: int
    last_lane: int


def claim(
    connection: Connection, groups: Sequence[Alike], seconds: float, held: Sequence[int] = ()
) -> dict[int, Order]:
    """Grant slaves the best rows; return what each slave that got one is to build, by slave_id.

    groups: one of each target at most. held: build_ids of leases that are granted once more:
    their slaves may not have heard of them. Takes the rows from the queue, as the rule wants.
    """
    parameters = in_columns(groups, seconds, held)
    rows = connection.execute(statement("leases", "claim"), parameters).all()
    sets = tag_sets.known(connection)
    sets.load(connection, {row.pypi_tag_set_id for row in rows} - {None})
    return {row.slave_id: _order(row, sets) for row in rows}


def _order(row: Any, sets: TagSets) -> Order:
    return Order(
        token=bytes(row.token),
        build_id=row.build_id,
        slave_id=row.slave_id,
        package=row.package,
        version=row.version,
        released=row.released,
        sdist=Sdist(row.sdist_name, row.sdist_url, row.sdist_sha256, row.sdist_size),
        pypi_tags=sets.union([row.pypi_tag_set_id] if row.pypi_tag_set_id else []),
        network=row.network,
        seconds=row.seconds,
        failures=tuple(FailureClass(kind) for kind in row.failures),
    )


def in_columns(groups: Sequence[Alike], seconds: float, held: Sequence[int] = ()) -> dict[str, Any]:
    """What the statement of a claim is given."""
    askers = [
        (group.target_id, place, *asker)
        for group in groups
        for place, asker in enumerate(group.askers, 1)
    ]
    return {
        "target_ids": [group.target_id for group in groups],
        "sizes": [group.size for group in groups],
        "first_lanes": [group.first_lane for group in groups],
        "last_lanes": [group.last_lane for group in groups],
        "counts": [len(group.askers) for group in groups],
        "most": max((len(group.askers) for group in groups), default=0),
        "targets_of": [target_id for target_id, _, _, _ in askers],
        "places": [place for _, place, _, _ in askers],
        "slave_ids": [slave_id for _, _, slave_id, _ in askers],
        "tokens": [token for _, _, _, token in askers],
        "held": list(held),
        "seconds": seconds,
    }


# Extending


def stand(connection: Connection, beats: Collection[Beat], seconds: float) -> set[bytes]:
    """Extend these leases; return the tokens of those that stand.

    One that was given up while its slave was silent stands again, if its build still waits.
    """
    if not beats:
        return set()
    found = _beat(connection, "extend", beats, seconds)
    if missing := [beat for beat in beats if beat.token not in found]:
        found |= _beat(connection, "revive", missing, seconds)
    return found


def _beat(connection: Connection, name: str, beats: Collection[Beat], seconds: float) -> set[bytes]:
    parameters = {
        "tokens": [beat.token for beat in beats],
        "slave_ids": [beat.slave_id for beat in beats],
        "runs": [beat.run for beat in beats],
        "phases": [beat.phase for beat in beats],
        "log_tails": [beat.log_tail for beat in beats],
        "seconds": seconds,
    }
    rows = connection.execute(statement("leases", name), parameters)
    return {bytes(row.token) for row in rows}


# Ending


def reported(connection: Connection, tokens: Iterable[bytes]) -> dict[bytes, Reported]:
    """These leases, as far as they stand, locked until the transaction ends."""
    rows = connection.execute(statement("leases", "reported"), {"tokens": list(tokens)}).mappings()
    found = [Reported(**{**row, "token": bytes(row["token"])}) for row in rows]
    return {lease.token: lease for lease in found}


def expired(connection: Connection, longest: float) -> list[Reported]:
    """The leases that ran out, locked until the transaction ends, as far as nobody else has
    them. longest: seconds that any lease is granted for.
    """
    connection.execute(statement("leases", "mend_expiries"), {"seconds": longest})
    tokens = connection.execute(statement("leases", "expired")).scalars().all()
    return list(reported(connection, map(bytes, tokens)).values()) if tokens else []


def on_record(connection: Connection, tokens: Iterable[bytes]) -> set[bytes]:
    """Those of these leases whose builds were committed."""
    found = connection.execute(statement("leases", "on_record"), {"tokens": list(tokens)})
    return {bytes(token) for token in found.scalars()}


def report(
    connection: Connection,
    reports: Mapping[int, Mapping[str, Any]],
    files: Collection[Mapping[str, Any]],
    seconds: float,
) -> None:
    """Keep what slaves said of the ends of builds, and expect these *files* of them.

    reports: by build_id. files: build_id, name, size, sha256.
    """
    rows = [{"build_id": build_id, "report": what} for build_id, what in reports.items()]
    parameters = {"reports": json.dumps(rows), "seconds": seconds}
    connection.execute(statement("leases", "report"), parameters)
    connection.execute(statement("leases", "expect_uploads"), {"files": json.dumps(list(files))})


def uploads(connection: Connection, build_ids: Iterable[int]) -> list[Upload]:
    """What became of each file of these leases."""
    rows = connection.execute(statement("leases", "uploads"), {"build_ids": list(build_ids)})
    return [Upload(**row._mapping) for row in rows]


def put_builds(connection: Connection, builds: Collection[Mapping[str, Any]]) -> None:
    """End leases and put their builds on record.

    builds: build_id, and the columns of builds that its lease does not know. The rule asks for
    both: refresh the versions.
    """
    parameters = {
        "builds": json.dumps(list(builds)),
        "build_ids": [build["build_id"] for build in builds],
    }
    connection.execute(statement("leases", "put_builds"), parameters)


def put_files(connection: Connection, files: Collection[Mapping[str, Any]]) -> None:
    """Put placed wheels of builds on record: build_id, package_id, and what the receiver found,
    its tags sorted.

    The rule asks for their tags: refresh the versions.
    """
    parameters = {"files": json.dumps(list(files))}
    tag_sets.put(connection, (file["tags"] for file in files))
    connection.execute(statement("leases", "put_files"), parameters)
    connection.execute(statement("leases", "put_summaries"), parameters)


def put_costs(connection: Connection, costs: Collection[Cost]) -> None:
    """Enter what builds take, one of each package and target."""
    rows = [
        {
            "package_id": cost.package_id,
            "target_id": cost.target_id,
            "seconds": cost.seconds,
            "peak_memory": cost.peak_memory,
            "size": cost.size,
        }
        for cost in costs
    ]
    connection.execute(statement("leases", "put_costs"), {"costs": json.dumps(rows)})


def blame(connection: Connection, slaves: Collection[Blamed], packages: Mapping[int, int]) -> None:
    """Enter whose fault failures were. packages: failures in a row, by package_id."""
    if slaves:
        rows = [
            {
                "slave_id": slave.slave_id,
                "blame": slave.blame,
                "quarantines": slave.quarantines,
                "seconds": slave.seconds,
            }
            for slave in slaves
        ]
        connection.execute(statement("leases", "blame_slaves"), {"slaves": json.dumps(rows)})
    if packages:
        counts = [
            {"package_id": package_id, "failures": failures}
            for package_id, failures in sorted(packages.items())
        ]
        parameters = {"packages": json.dumps(counts)}
        connection.execute(statement("leases", "blame_packages"), parameters)


def end(connection: Connection, build_ids: Iterable[int]) -> None:
    """End leases without a build. Their versions must be refreshed."""
    connection.execute(statement("leases", "end"), {"build_ids": list(build_ids)})
