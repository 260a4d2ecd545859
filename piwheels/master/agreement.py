"""Making the database agree with the pages that were read, many in one transaction.

Each step may be repeated after a crash: a job is deleted by the transaction that does the last
of what follows from it. Withdrawing a project takes two: after the first nothing of it can be
claimed any more, so the second finds all leases that are left.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from piwheels.database import leases, projects, queue, tracking
from piwheels.database.connection import transaction
from piwheels.database.projects import Known, Update
from piwheels.database.tracking import PutOff
from piwheels.master.judging import bring_in_line
from piwheels.master.reading import Hopeless, Missing, Outcome, Read, Unread, jitter
from piwheels.model.following import Follow, Mode, Project, ProjectJob
from piwheels.model.projects import WITHDRAWN, Changes, ProjectPage, Status
from piwheels.model.queue import Lane
from piwheels.rules.following import (
    SECOND_LOOK,
    Rhythm,
    counts,
    follow_of,
    is_gone,
    is_older,
    next_read,
    policy_of,
    retry,
    wishes,
)
from piwheels.rules.project_diff import diff


@dataclass(frozen=True, slots=True)
class Terms:
    """What is followed, how often pages are read again, and how long files of deleted projects
    stay: grace, in seconds.
    """

    mode: Mode
    rhythm: Rhythm
    grace: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Agreed:
    """What came of a batch. versions: that changed. withdrawn: projects."""

    projects: int
    versions: int
    withdrawn: tuple[str, ...] = ()


def agree(engine: Engine, terms: Terms, outcomes: Collection[Outcome]) -> Agreed:
    """Bring the database in line with *outcomes*; their jobs are done then, or put off."""
    reads = {each.page.package: each for each in outcomes if isinstance(each, Read)}
    gone = {
        each.job.name: each.job
        for each in outcomes
        if isinstance(each, Missing) and is_gone(each.job.missing)
    }
    with transaction(engine) as connection:
        leftover = projects.half_forgotten(connection, reads)
    _end(engine, leftover, terms.grace)
    with transaction(engine) as connection:
        batch = _Batch(connection, terms, tracking.progress(connection).began)
        batch.take_in(reads, gone)
        versions = batch.write()
        tracking.put_off(connection, list(_put_off(outcomes)))
        done = {name: _read_serial(read) for name, read in reads.items()}
        done |= {name: job.serial for name, job in gone.items()}
        done |= {each.job.name: None for each in outcomes if isinstance(each, Hopeless)}
        later = {name: done.pop(name) for name in batch.withdrawn}
        tracking.done(connection, done)
    _end(engine, list(batch.withdrawn.values()), terms.grace, later)
    return Agreed(len(reads), versions, tuple(batch.withdrawn))


def _end(
    engine: Engine,
    package_ids: Collection[int],
    grace: float,
    done: Mapping[str, int | None] | None = None,
) -> None:
    """End the builds of withdrawn packages, forget deleted ones; their jobs are done."""
    if package_ids:
        with transaction(engine) as connection:
            leases.end(connection, projects.lease_ids(connection, package_ids))
            projects.forget(connection, package_ids, grace)
            tracking.done(connection, done or {})


class _Batch:
    """What becomes of the projects of one transaction.

    withdrawn: package_ids, by name, of those that are neither built nor shown from now on.
    """

    def __init__(self, connection: Connection, terms: Terms, began: datetime) -> None:
        self.connection = connection
        self.terms = terms
        self.began = began
        self.updates: list[Update] = []
        self.withdrawn: dict[str, int] = {}
        self.changed_status: set[int] = set()

    def take_in(self, reads: Mapping[str, Read], gone: Mapping[str, ProjectJob]) -> None:
        """Compare what was read with what is known."""
        held = projects.hold(self.connection, [*reads, *gone])
        if self.terms.mode.everything:
            held |= self._enter(read.page for name, read in reads.items() if name not in held)
        known = projects.known(
            self.connection, [held[name].package_id for name in reads.keys() & held.keys()]
        )
        for name, read in reads.items():
            if name in held:
                self._compare(read, held[name], known[held[name].package_id])
        for name, job in gone.items():
            if name in held:
                self._bury(job, held[name])

    def _enter(self, pages: Iterable[ProjectPage]) -> dict[str, Project]:
        """Make projects known that are followed for no other reason than that all are."""
        new = [page for page in pages if Status(page.status) not in WITHDRAWN]
        if not new:
            return {}
        projects.enter(self.connection, new, Follow.ALL, self.began, policy_of(Follow.ALL))
        return projects.hold(self.connection, [page.package for page in new])

    def _compare(self, read: Read, project: Project, known: Known) -> None:
        page = read.page
        if is_older(project, page.serial):
            return
        status = Status(page.status)
        follow = follow_of(self.terms.mode, project.follow)
        is_followed = counts(self.terms.mode, follow)
        after = replace(
            project,
            display_name=page.display_name,
            serial=_serial(project, read),
            status=status,
            status_reason=page.status_reason,
            follow=follow,
            followed=project.followed or (self.began if is_followed else None),
        )
        if status in WITHDRAWN:  # its page lists nothing; what it had is kept for its return
            self._update(project, after)
            return
        changes, lanes = diff(known.versions, page), dict[str, Lane]()
        if is_followed and after.followed is not None:
            free = (
                version
                for version in page.versions
                if version.version not in known.versions or version.version in known.unwanted
            )
            lanes = wishes(after, after.followed, known.unwanted, free)
        self._update(project, after, changes, lanes)

    def _bury(self, job: ProjectJob, project: Project) -> None:
        serial = max(project.serial, job.serial or 0)
        after = replace(project, status=Status.DELETED, status_reason="", serial=serial)
        self._update(project, after)

    def _update(
        self,
        before: Project,
        after: Project,
        changes: Changes | None = None,
        lanes: Mapping[str, Lane] | None = None,
    ) -> None:
        changes = changes or Changes()
        has_changed = before.status is not after.status
        is_news = bool(changes.versions) or has_changed
        until_read = next_read(
            self.terms.rhythm,
            after.status,
            counts(self.terms.mode, after.follow),
            timedelta(0) if is_news else before.quiet,
            jitter(after.name),
        )
        self.updates.append(
            Update(after, changes, lanes or {}, until_read, is_news or before.last_read is None)
        )
        if has_changed:
            self.changed_status.add(after.package_id)
        if after.status in WITHDRAWN:  # again after a crash, too: its job is not done yet
            self.withdrawn[after.name] = after.package_id

    def write(self) -> int:
        """Write all of it down; return how many versions changed."""
        if not self.updates:
            return 0
        changed = projects.apply(self.connection, self.updates)
        concerned: set[int] = set()
        if self.changed_status:
            concerned = projects.wanted(self.connection, self.changed_status)
            projects.request_pages(self.connection, self.changed_status, "status on PyPI")
        bring_in_line(self.connection, changed | concerned)
        if self.withdrawn:
            ids = list(self.withdrawn.values())
            queue.lock(self.connection, projects.wanted(self.connection, ids))
            projects.leave_queue(self.connection, ids)
        return len(changed)


def _serial(project: Project, read: Read) -> int:
    """Where pages have no serials, the one that the job expected stands for it."""
    said = read.job.serial if read.page.serial is None else read.page.serial
    return max(project.serial, said or 0)


def _read_serial(read: Read) -> int | None:
    return read.job.serial if read.page.serial is None else read.page.serial


def _put_off(outcomes: Iterable[Outcome]) -> Iterator[PutOff]:
    for each in outcomes:
        job = each.job
        delay = retry(job.attempts, jitter(f"{job.name} {job.attempts}"))
        if isinstance(each, Unread):
            yield PutOff(job.name, delay)
        elif isinstance(each, Missing) and not is_gone(job.missing):
            yield PutOff(job.name, SECOND_LOOK + delay, is_missing=True)
