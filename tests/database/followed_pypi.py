"""A farm in a database that follows a scripted PyPI, step by step and without threads."""

from contextlib import contextmanager, suppress
from datetime import timedelta

from sqlalchemy import event, text

from piwheels.database import projects, tracking, versions
from piwheels.database.connection import transaction
from piwheels.master import agreement, news, queue
from piwheels.master.agreement import Terms
from piwheels.master.reading import Gate, read
from piwheels.model.errors import Unavailable
from piwheels.model.following import Mode
from piwheels.model.projects import WITHDRAWN, ProjectPage, Status
from piwheels.pypi import Journal, NoJournal, NoSuchProject, PyPI
from piwheels.rules.following import Rhythm, lane_of
from piwheels.rules.project_diff import withdrawn

ALL = Mode(everything=True)
LISTED = Mode()
DAY = 86_400.0


class Killed(BaseException):
    """The tracker's process is no more."""


class Follower:
    """What the tracker does, one step after the other. kill: before the commit of that number."""

    def __init__(self, farm, pypi, mode=ALL):
        self.farm, self.pypi, self.mode = farm, pypi, mode
        self.engine = farm.engine
        self.client = PyPI(pypi.simple_url, pause=0.0)
        self.journal = Journal(pypi.journal_url, pause=0.0)
        self.gate = Gate()
        self.commits_left = None
        event.listen(self.engine, "commit", self._count_commit)

    def close(self):
        event.remove(self.engine, "commit", self._count_commit)
        self.client.close()
        self.journal.close()

    def _count_commit(self, _):
        if self.commits_left is not None:
            if self.commits_left == 0:
                self.commits_left = None
                raise Killed
            self.commits_left -= 1

    @property
    def terms(self):
        return Terms(self.mode, Rhythm(timedelta(days=30)), DAY)

    # Steps

    def forget(self):
        """As on the first day."""
        self.farm.empty()
        self.farm.change(
            "TRUNCATE project_jobs, listing, doomed_files",
            "UPDATE tracking SET serial = 0, has_journal = true, comparing = '-infinity',"
            " compared = '-infinity', unknown = 0, stale = 0, absent = 0",
        )

    def look(self):
        with suppress(Unavailable, NoJournal):
            news.read_journal(self.engine, self.journal, self.mode)

    def compare(self):
        with suppress(Unavailable):
            return news.compare_list(self.engine, self.client, self.mode, 0.0)

    def poll(self):
        self.farm.change("UPDATE packages SET next_read = '-infinity'")
        news.enter_polls(self.engine, 50)

    def work(self):
        """Do what is to be done now; return how many jobs that was."""
        with transaction(self.engine) as connection:
            jobs = tracking.take(connection, 100, 60.0, DAY)
        outcomes = [read(self.client, self.gate, job) for job in jobs]
        if outcomes:
            agreement.agree(self.engine, self.terms, outcomes)
        return len(jobs)

    def let_time_pass(self):
        """So much that whatever was put off is due, and what was missing is so for long."""
        self.farm.change(
            "UPDATE project_jobs SET not_before = '-infinity',"
            " missing = missing - interval '1 hour'",
            "UPDATE tracking SET comparing = '-infinity'",
        )

    def settle(self):
        """Until there is nothing left to do."""
        self.look()
        while self.work():
            self.let_time_pass()
        self.farm.keep()

    def follow_everything(self):
        """All that a tracker does in the course of time."""
        self.let_time_pass()
        self.look()
        self.compare()
        self.poll()
        self.settle()

    @contextmanager
    def killed_before_commit(self, number):
        self.commits_left = number
        with suppress(Killed):
            yield
        self.commits_left = None

    def add(self, name, follow=True):
        """As piw-add does."""
        page = self.client.project(name)
        with transaction(self.engine) as connection:
            versions.enter(connection, page)
            changed = versions.apply(
                connection, page, agreement.diff(versions.known(connection, name), page)
            )
            project = projects.hold(connection, [name])[name]
            since = projects.follow(connection, project.package_id) if follow else None
            if since is not None:
                lanes = {each.version: lane_of(each, since, False) for each in page.versions}
                changed |= projects.want(connection, project.package_id, lanes)
            queue.refresh(connection, changed)

    # What must hold

    def check(self, history):
        """The database is what PyPI says now, and the queue what the rule says."""
        with transaction(self.engine) as connection:
            names = connection.execute(text("SELECT name FROM packages")).scalars().all()
            held = projects.hold(connection, names)
            known = projects.known(connection, [each.package_id for each in held.values()])
        for project in held.values():
            self.check_project(project, known[project.package_id])
        shown = {
            name
            for name, project in history.projects().items()
            if Status(project.status) not in WITHDRAWN
        }
        if self.mode.everything:
            assert shown <= held.keys()
        self.farm.check()
        assert not self.farm.scalars(
            "SELECT 1 FROM leases JOIN versions USING (version_id) JOIN packages"
            " USING (package_id) WHERE status IN ('quarantined', 'deleted')"
        )
        assert not self.farm.scalars("SELECT 1 FROM project_jobs")

    def check_project(self, project, known):
        try:
            page = self.client.project(project.name)
        except NoSuchProject:
            assert (project.status, known.versions) == (Status.DELETED, {})
            return
        assert isinstance(page, ProjectPage)
        assert (project.status, project.status_reason, project.serial) == (
            page.status,
            page.status_reason,
            page.serial,
        )
        if project.status in WITHDRAWN:
            return
        present = {version.version: version for version in page.versions}
        gone = {name: known.versions[name] for name in known.versions.keys() - present.keys()}
        assert {name: known.versions[name] for name in present} == present
        assert all(version == withdrawn(version) for version in gone.values())
        if self.mode.everything:
            assert known.unwanted.isdisjoint(present)
