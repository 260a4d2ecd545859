"""How a build ends: its result is kept, its files awaited, then all of it committed at once.

The receiver places the files; this puts build, files, queue, lease and page job on record in
one transaction. Each step may be repeated after a crash: before the commit the result lies
in the lease, after it the build is found by its token.
"""

from typing import Any, Protocol

from sqlalchemy import Connection

from piwheels.database import leases
from piwheels.database.leases import Reported, Upload
from piwheels.model.builds import FailureClass, Outcome
from piwheels.protocol.slave import LOG_NAME, Built
from piwheels.rules.slave_session import Committed, Missing, Void

GIVEN_AWAY = "this build was given to another slave, or is not wanted any more"


class Turn(Protocol):
    """The transaction to work in, and the versions to refresh at its end."""

    connection: Connection
    touched: set[int]


def conclude(
    turn: Turn, slave_id: int, token: bytes, built: Built | None, seconds: float
) -> Missing | Committed | Void:
    """Keep the result *built*, if one is given; commit the build if all its files are here."""
    if leases.is_on_record(turn.connection, token):
        return Committed()
    if not leases.stands(turn.connection, slave_id, token, seconds, "delivering"):
        return Void(GIVEN_AWAY)
    if built is not None:
        _keep(turn.connection, slave_id, built, seconds)
    lease = leases.reported(turn.connection, slave_id, token)
    if lease is None or lease.report is None:
        return Void("no result of this build was ever reported")
    uploads = leases.uploads(turn.connection, lease.build_id)
    if missing := tuple(u.name for u in uploads if u.placed is None and not u.refused):
        return Missing(missing)
    _commit(turn, lease, uploads)
    return Committed()


def _keep(connection: Connection, slave_id: int, built: Built, seconds: float) -> None:
    report = {
        "seconds": built.seconds,
        "outcome": built.outcome.value,
        "kind": built.kind.value if built.kind else "",
        "cause": built.cause,
        "fix": built.fix,
        "peak_memory": built.peak_memory,
        "cpu_seconds": built.cpu_seconds,
        "sandbox": built.sandbox,
        "network_used": built.network_used,
        "phases": built.phases,
        "environment": built.environment,
    }
    wheels = built.wheels if built.outcome is Outcome.SUCCESS else ()
    files = [(file.name, file.size, file.sha256) for file in (built.log, *wheels)]
    leases.report(connection, slave_id, built.lease, report, files, seconds)


def _commit(turn: Turn, lease: Reported, uploads: list[Upload]) -> None:
    assert lease.report is not None
    log = next(u for u in uploads if u.name == LOG_NAME)
    wheels = [u for u in uploads if u.name != LOG_NAME]
    build = {**lease.report, "log": log.placed["log"] if log.placed else ""}
    if refusal := _refusal(lease.report, wheels):
        build |= {
            "outcome": Outcome.FAILURE.value,
            "kind": FailureClass.BAD_WHEEL.value,
            "cause": refusal,
        }
    leases.put_build(turn.connection, lease.build_id, build)
    if build["outcome"] == Outcome.SUCCESS.value:
        for wheel in wheels:
            assert wheel.placed is not None
            leases.put_file(turn.connection, lease, wheel.placed)
    leases.end(turn.connection, lease.build_id)
    turn.touched.add(lease.version_id)


def _refusal(report: dict[str, Any], wheels: list[Upload]) -> str:
    """Why what claims to be a success is none, or ''."""
    if report["outcome"] != Outcome.SUCCESS.value:
        return ""
    if not wheels:
        return "the slave reported success without a wheel"
    return next((wheel.refused for wheel in wheels if wheel.refused), "")
