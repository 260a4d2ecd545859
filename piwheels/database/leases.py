"""Slaves, and the leases they hold: granting, extending, ending, committing.

Every function works within the caller's transaction. Where one changes what the queue's
rule asks, its docstring says so: the caller then refreshes those versions.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from piwheels.database.queue import request_site_page
from piwheels.database.statements import statement
from piwheels.model.builds import Sdist
from piwheels.model.targets import TargetOffer


@dataclass(frozen=True, slots=True)
class Machine:
    """What a slave runs on. memory, disk: bytes in all."""

    cores: int
    memory: int
    disk: int
    sandbox: str


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that a slave holds."""

    build_id: int
    token: bytes
    version_id: int


@dataclass(frozen=True, slots=True)
class Order:
    """What a lease asks for. pypi_tags: of PyPI's own wheels of the version."""

    token: bytes
    build_id: int
    package: str
    version: str
    sdist: Sdist
    pypi_tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reported:
    """A lease, and what its slave said of its end: None if nothing yet."""

    build_id: int
    version_id: int
    package_id: int
    report: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a lease. placed: what the receiver found, once it lies in the web tree."""

    name: str
    placed: dict[str, Any] | None
    refused: str


def tag_set_id(connection: Connection, tags: Iterable[str]) -> int:
    """The number of this set of tags, entered if it is new."""
    parameters = {"tags": sorted(set(tags))}
    connection.execute(statement("leases", "put_tag_set"), parameters)
    return int(connection.execute(statement("leases", "tag_set_id"), parameters).scalar_one())


def put_target(connection: Connection, offer: TargetOffer, rank: int, active: bool) -> int:
    """Enter a target, or its new Python and tags; return its number.

    rank and active count for a new one only: they are the operator's.
    """
    parameters = {
        "name": offer.name,
        "label": offer.label,
        "python": offer.python,
        "rank": rank,
        "active": active,
        "tag_set_id": tag_set_id(connection, offer.tags),
    }
    connection.execute(statement("leases", "put_target"), parameters)
    found = connection.execute(statement("leases", "target"), {"name": offer.name})
    return int(found.one().target_id)


def put_slave(connection: Connection, label: str, target_id: int, machine: Machine) -> int:
    """Enter a slave that said HELLO; return its number."""
    parameters = {
        "label": label,
        "target_id": target_id,
        "cores": machine.cores,
        "memory": machine.memory,
        "disk": machine.disk,
        "sandbox": machine.sandbox,
    }
    return int(connection.execute(statement("leases", "put_slave"), parameters).scalar_one())


def seen(connection: Connection, slave_id: int, health: Mapping[str, Any]) -> None:
    """Enter how a slave is: memory_free, disk_free (bytes), load, temperature."""
    connection.execute(statement("leases", "seen"), {**health, "slave_id": slave_id})


def gone(connection: Connection, slave_id: int) -> None:
    """Enter that a slave left."""
    connection.execute(statement("leases", "gone"), {"slave_id": slave_id})


def held(connection: Connection, slave_id: int) -> list[Held]:
    """The leases a slave holds."""
    rows = connection.execute(statement("leases", "held"), {"slave_id": slave_id})
    return [Held(row.build_id, bytes(row.token), row.version_id) for row in rows]


def claim(connection: Connection, slave_id: int, token: bytes, seconds: float) -> Order | None:
    """Grant what the slave holds already, or else the best of its queue; None: nothing waits.

    Takes the row from the queue, as the rule wants.
    """
    if order := _order(connection, slave_id):
        return order
    parameters = {"slave_id": slave_id, "token": token, "seconds": seconds}
    if connection.execute(statement("leases", "claim"), parameters).one_or_none() is None:
        return None
    return _order(connection, slave_id)


def _order(connection: Connection, slave_id: int) -> Order | None:
    found = connection.execute(statement("leases", "order"), {"slave_id": slave_id})
    row = found.one_or_none()
    if row is None:
        return None
    sdist = Sdist(row.sdist_name, row.sdist_url, row.sdist_sha256, row.sdist_size)
    tags = frozenset(row.pypi_tags)
    return Order(bytes(row.token), row.build_id, row.package, row.version, sdist, tags)


def stands(
    connection: Connection,
    slave_id: int,
    token: bytes,
    seconds: float,
    phase: str = "back",
    log_tail: str = "",
) -> bool:
    """Extend a lease of this slave; whether it stands.

    One that was given up while its slave was silent stands again, if its build still waits.
    """
    parameters = {
        "slave_id": slave_id,
        "token": token,
        "seconds": seconds,
        "phase": phase,
        "log_tail": log_tail,
    }
    if connection.execute(statement("leases", "extend"), parameters).one_or_none():
        return True
    return connection.execute(statement("leases", "revive"), parameters).one_or_none() is not None


def report(
    connection: Connection,
    slave_id: int,
    token: bytes,
    what: Mapping[str, Any],
    files: Iterable[tuple[str, int, str]],
    seconds: float,
) -> bool:
    """Keep what a slave says of its build's end, and expect its files: name, size, sha256.

    Whether the lease stands.
    """
    parameters = {
        "slave_id": slave_id,
        "token": token,
        "report": json.dumps(what),
        "seconds": seconds,
    }
    row = connection.execute(statement("leases", "report"), parameters).one_or_none()
    if row is None:
        return False
    uploads = [
        {"build_id": row.build_id, "name": name, "size": size, "sha256": sha256}
        for name, size, sha256 in files
    ]
    connection.execute(statement("leases", "expect_upload"), uploads)
    return True


def reported(connection: Connection, slave_id: int, token: bytes) -> Reported | None:
    """The lease, locked until the transaction ends; None if it does not stand."""
    parameters = {"slave_id": slave_id, "token": token}
    row = connection.execute(statement("leases", "lease"), parameters).one_or_none()
    return None if row is None else Reported(**row._mapping)


def is_on_record(connection: Connection, token: bytes) -> bool:
    """Whether the build of this lease was committed."""
    return bool(
        connection.execute(statement("leases", "is_on_record"), {"token": token}).scalar_one()
    )


def uploads(connection: Connection, build_id: int) -> list[Upload]:
    """What became of each file of a lease."""
    rows = connection.execute(statement("leases", "uploads"), {"build_id": build_id})
    return [Upload(**row._mapping) for row in rows]


def put_build(connection: Connection, build_id: int, what: Mapping[str, Any]) -> None:
    """Put a build on record: the columns of builds that its lease does not know."""
    parameters = {
        **what,
        "build_id": build_id,
        "phases": json.dumps(what["phases"]),
        "environment": json.dumps(what["environment"]),
    }
    connection.execute(statement("leases", "put_build"), parameters)


def put_file(connection: Connection, lease: Reported, placed: Mapping[str, Any]) -> None:
    """Put a placed wheel on record. The rule asks for its tags: refresh the version."""
    parameters = {
        "version_id": lease.version_id,
        "build_id": lease.build_id,
        "name": placed["name"],
        "size": placed["size"],
        "sha256": placed["sha256"],
        "metadata_sha256": placed["metadata_sha256"],
        "tag_set_id": tag_set_id(connection, placed["tags"]),
        "requires_python": placed["requires_python"],
    }
    connection.execute(statement("leases", "put_file"), parameters)
    summary = {"package_id": lease.package_id, "summary": placed.get("summary", "")}
    connection.execute(statement("leases", "put_summary"), summary)
    request_site_page(connection, "simple")


def end(connection: Connection, build_id: int) -> None:
    """End a lease. Its version must be refreshed."""
    connection.execute(statement("leases", "end"), {"build_id": build_id})


def give_up(connection: Connection, build_id: int, cause: str) -> None:
    """End a lease whose slave was lost, to its blame. Its version must be refreshed."""
    connection.execute(statement("leases", "put_lost"), {"build_id": build_id, "cause": cause})
    end(connection, build_id)


def give_up_expired(connection: Connection) -> list[int]:
    """Give up the leases that ran out; return the versions to refresh."""
    rows = connection.execute(statement("leases", "expired")).all()
    for row in rows:
        give_up(connection, row.build_id, f"{row.label} fell silent in the middle of the build")
    return [row.version_id for row in rows]


def unsettled_targets(connection: Connection) -> list[int]:
    """Targets that came or changed since the queue last heard of them."""
    return list(connection.execute(statement("leases", "unsettled")).scalars())


def settle(connection: Connection, target_ids: Iterable[int]) -> None:
    """Enter that the queue knows of these targets."""
    connection.execute(statement("leases", "settle"), {"target_ids": list(target_ids)})
