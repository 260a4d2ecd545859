"""How builds end: results are kept, files awaited, then all of it committed at once.

The receiver places the files; this puts builds, files, queue, leases, blame and page jobs on
record in one transaction. Each step may be repeated after a crash: before the commit the
result lies in the lease, after it the build is found by its token.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from piwheels.database import leases
from piwheels.database.leases import Beat, Blamed, Cost, Reported, Upload
from piwheels.database.queue import offer
from piwheels.model.builds import FailureClass, Outcome
from piwheels.protocol.slave import LOG_NAME, Built
from piwheels.rules import resources, slave_health
from piwheels.rules.failures import Blame
from piwheels.rules.slave_session import Committed, Conclude, Missing, Unreported, Void

Answer = Missing | Committed | Unreported | Void

GIVEN_AWAY = "this build was given to another slave, or is not wanted any more"

LOST: dict[str, Any] = {
    "outcome": Outcome.FAILURE.value,
    "kind": FailureClass.SLAVE_LOST.value,
    "fix": "",
    "needs": "",
    "peak_memory": 0,
    "cpu_seconds": 0,
    "sandbox": "",
    "network_used": False,
    "phases": {},
    "environment": {},
    "log": "",
}


def conclude(
    connection: Connection, asked: Sequence[Conclude], seconds: float
) -> tuple[dict[bytes, Answer], set[int]]:
    """Keep the results that are given; commit the builds whose files are all here.

    seconds: for which leases are extended. Returns the answer for each token, and the
    versions to refresh.
    """
    standing = _standing(connection, asked, seconds)
    results = {each.lease: each.built for each in asked if each.built is not None}
    _keep(connection, standing, results, seconds)
    known = {
        token: {**report, "build_id": lease.build_id}
        for token, lease in standing.items()
        if (report := lease.report or _report(results.get(token))) is not None
    }
    uploads = _uploads(connection, [standing[token] for token in known], results)
    ended, answers = _Endings(connection), dict[bytes, Answer]()
    for token, report in known.items():
        files = uploads.get(report["build_id"], [])
        if missing := tuple(u.name for u in files if u.placed is None and not u.refused):
            answers[token] = Missing(missing)
        else:
            ended.add(standing[token], _verified(report, files), _wheels(files))
            answers[token] = Committed()
    touched = ended.commit()
    absent = {each.lease for each in asked} - answers.keys()
    for token in leases.on_record(connection, absent) if absent else ():
        answers[token] = Committed()
    for token in absent - answers.keys():
        answers[token] = Unreported() if token in standing else Void(GIVEN_AWAY)
    going_on = [standing[token] for token in standing if answers[token] != Committed()]
    _extend(connection, going_on, seconds)
    return answers, touched


def _extend(connection: Connection, going_on: Iterable[Reported], seconds: float) -> None:
    """What was heard of a lease, and does not end it, is a sign of life."""
    beats = [Beat(lease.token, lease.slave_id, None, "delivering") for lease in going_on]
    leases.stand(connection, beats, seconds)


def give_up(connection: Connection, lost: Iterable[Reported], cause: str) -> set[int]:
    """End leases whose slaves were lost, to their blame; return the versions to refresh.

    cause: a sentence in which {label} stands for the slave.
    """
    ended = _Endings(connection)
    for lease in lost:
        report = {**LOST, "build_id": lease.build_id, "cause": cause.format(label=lease.label)}
        ended.add(lease, report, [])
    return ended.commit()


def _standing(
    connection: Connection, asked: Sequence[Conclude], seconds: float
) -> dict[bytes, Reported]:
    """The leases that stand, or stand again, of those asked about."""
    slaves = {each.lease: each.speaker.slave for each in asked}
    found = leases.reported(connection, slaves)
    if absent := slaves.keys() - found.keys():
        beats = [Beat(token, slaves[token], None, "delivering") for token in absent]
        if revived := leases.stand(connection, beats, seconds):
            found |= leases.reported(connection, revived)
    return {token: lease for token, lease in found.items() if lease.slave_id == slaves[token]}


def _keep(
    connection: Connection,
    standing: Mapping[bytes, Reported],
    results: Mapping[bytes, Built],
    seconds: float,
) -> None:
    """Keep the results that are news and whose files are still to come."""
    news = {
        standing[token].build_id: built
        for token, built in results.items()
        if token in standing and standing[token].report is None and _files(built)
    }
    if not news:
        return
    files = [
        {"build_id": build_id, "name": file.name, "size": file.size, "sha256": file.sha256}
        for build_id, built in news.items()
        for file in _files(built)
    ]
    reports = {build_id: _report(built) or {} for build_id, built in news.items()}
    leases.report(connection, reports, files, seconds)


def _files(built: Built) -> list[Any]:
    """All that is to be delivered."""
    wheels = built.wheels if built.outcome is Outcome.SUCCESS else ()
    return [file for file in (built.log, *wheels) if file is not None]


def _report(built: Built | None) -> dict[str, Any] | None:
    if built is None:
        return None
    return {
        "seconds": built.seconds,
        "outcome": built.outcome.value,
        "kind": built.kind.value if built.kind else "",
        "cause": built.cause,
        "fix": built.fix,
        "needs": built.needs,
        "peak_memory": built.peak_memory,
        "cpu_seconds": built.cpu_seconds,
        "sandbox": built.sandbox,
        "network_used": built.network_used,
        "phases": built.phases,
        "environment": built.environment,
    }


def _uploads(
    connection: Connection, ending: Iterable[Reported], results: Mapping[bytes, Built]
) -> dict[int, list[Upload]]:
    """By build_id. What never had a file need not be looked for."""
    build_ids = [
        lease.build_id
        for lease in ending
        if lease.report is not None or (lease.token in results and _files(results[lease.token]))
    ]
    found: dict[int, list[Upload]] = {}
    for upload in leases.uploads(connection, build_ids) if build_ids else ():
        found.setdefault(upload.build_id, []).append(upload)
    return found


def _wheels(files: Iterable[Upload]) -> list[Upload]:
    return [upload for upload in files if upload.name != LOG_NAME]


def _verified(report: dict[str, Any], files: Sequence[Upload]) -> dict[str, Any]:
    """The build as it goes on record: a success without a good wheel is none."""
    log = next((u.placed["log"] for u in files if u.name == LOG_NAME and u.placed), "")
    refusal = ""
    if report["outcome"] == Outcome.SUCCESS.value:
        wheels = _wheels(files)
        refusal = next((wheel.refused for wheel in wheels if wheel.refused), "")
        if not wheels:
            refusal = "the slave reported success without a wheel"
    if not refusal:
        return {**report, "log": log}
    return {
        **report,
        "log": log,
        "outcome": Outcome.FAILURE.value,
        "kind": FailureClass.BAD_WHEEL.value,
        "cause": refusal,
    }


@dataclass(slots=True)
class _Endings:
    """The builds that end in one transaction, and what follows for slaves and packages."""

    connection: Connection
    builds: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[tuple[int, int], Cost] = field(default_factory=dict)
    slaves: dict[int, Blamed] = field(default_factory=dict)
    packages: dict[int, int] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)

    def add(self, lease: Reported, build: dict[str, Any], wheels: Iterable[Upload]) -> None:
        """One more. *build*: as for leases.put_builds."""
        self.builds.append(build)
        self.touched.add(lease.version_id)
        is_success = build["outcome"] == Outcome.SUCCESS.value
        if is_success:
            blame = Blame.PACKAGE  # the slave works
            self._learn(lease, build)
            for wheel in wheels:
                assert wheel.placed is not None
                ids = {"build_id": lease.build_id, "package_id": lease.package_id}
                tags = {"tags": sorted(set(wheel.placed["tags"]))}
                self.files.append({"summary": "", **wheel.placed, **ids, **tags})
        else:
            blame = slave_health.blamed(FailureClass(build["kind"]), lease.lost_before)
        self._blame_slave(lease, blame)
        if blame is Blame.PACKAGE:
            failures = self.packages.get(lease.package_id, lease.failures)
            count = 0 if is_success else failures + 1
            if count != lease.failures:
                self.packages[lease.package_id] = count

    def _learn(self, lease: Reported, build: dict[str, Any]) -> None:
        key = (lease.package_id, lease.target_id)
        before = self.costs.get(key)
        seconds = before.seconds if before else lease.usual_seconds
        memory = before.peak_memory if before else lease.usual_memory
        peak = round(resources.usually(memory, build["peak_memory"]))
        self.costs[key] = Cost(
            *key, resources.usually(seconds, build["seconds"]), peak, resources.size_for(peak)
        )

    def _blame_slave(self, lease: Reported, blame: Blame) -> None:
        before = self.slaves.get(lease.slave_id)
        record = slave_health.Record(
            before.blame if before else lease.blame,
            before.quarantines if before else lease.quarantines,
        )
        after, quarantine = slave_health.after(record, blame)
        if after != record or quarantine is not None:
            seconds = quarantine.total_seconds() if quarantine else None
            self.slaves[lease.slave_id] = Blamed(
                lease.slave_id, after.blame, after.quarantines, seconds
            )

    def commit(self) -> set[int]:
        """Put all on record and end the leases; return the versions to refresh."""
        if not self.builds:
            return set()
        leases.put_builds(self.connection, self.builds)
        if self.files:
            leases.put_files(self.connection, self.files)
            offer(self.connection, {file["package_id"] for file in self.files})
        if self.costs:
            leases.put_costs(self.connection, list(self.costs.values()))
        leases.blame(self.connection, list(self.slaves.values()), self.packages)
        return self.touched
