"""A small farm that lives in a database only: what can happen to it, done by the real code."""

import itertools

from sqlalchemy import text

from piwheels.database import leases, versions
from piwheels.database import queue as table
from piwheels.database.connection import connect, transaction
from piwheels.master import claims, conclusion, queue
from piwheels.master.keeper import Keeper
from piwheels.model.builds import FailureClass, Outcome, Sdist
from piwheels.model.projects import ProjectPage, ProjectVersion
from piwheels.model.queue import State
from piwheels.model.targets import TargetOffer
from piwheels.protocol.slave import LOG_NAME, Built, DeliveredFile
from piwheels.rules.project_diff import diff
from piwheels.rules.queue import verdicts
from piwheels.rules.slave_session import Committed, Conclude, Missing, Speaker

MINORS = (9, 11, 13)
LEASE = 60.0  # seconds
RUN = bytes(16)


def tags_of(minor):
    return (f"cp3{minor}-cp3{minor}-linux_armv7l", "cp39-abi3-linux_armv7l", "py3-none-any")


class Farm:
    """Three targets; two slaves for each, of which the second is larger."""

    def __init__(self, dsn):
        self.engine = connect(dsn)
        self.keeper = Keeper(self.engine)
        self.targets, self.slaves = {}, {}
        with transaction(self.engine) as connection:
            for minor in MINORS:
                self.targets[minor] = self._put_target(connection, minor)
                for size in (0, 2):
                    machine = leases.Machine(1, 1, 1, "L0", size, RUN, "first")
                    self.slaves[minor, size] = leases.put_slave(
                        connection, f"pi-{minor}-{size}", self.targets[minor], machine
                    )

    def _put_target(self, connection, minor, tags=None):
        name = f"cp3{minor}-linux_armv7l"
        offer = TargetOffer(name, "", f"3.{minor}.1", tags or tags_of(minor))
        return leases.put_target(connection, offer, rank=minor, active=True)

    def empty(self):
        """Forget all but targets and slaves, which are as at first."""
        self.change(
            "TRUNCATE packages, leases, builds, queue_counts, queue_changes, rejudge CASCADE",
            "UPDATE targets SET active = true, size = 2, image_since = 0",
            *(
                f"UPDATE targets SET rank = {m} WHERE target_id = {t}"
                for m, t in self.targets.items()
            ),
            "UPDATE slaves SET blame = 0, quarantines = 0, quarantined = '-infinity'",
            "DELETE FROM images WHERE image <> 'first'",
        )
        self.packages, self.pages, self.names = [], {}, itertools.count()

    def change(self, *statements, **values):
        with transaction(self.engine) as connection:
            for statement in statements:
                connection.execute(text(statement), values)

    def scalars(self, statement, **values):
        with transaction(self.engine) as connection:
            return list(connection.execute(text(statement), values).scalars())

    # What PyPI and operators do

    def add_package(self):
        name = f"p{next(self.names)}"
        self.packages.append(name)
        self.pages[name] = {}
        self.release(-1, "1.0")

    def release(self, which, version, *, tags=(), lane=2, **details):
        """A version of a package comes to PyPI, or comes back another."""
        name = self.packages[which % len(self.packages)]
        sdist = Sdist(f"{name}-{version}.tar.gz", "http://127.0.0.1/x", "a" * 64, 1)
        details = {"sdist": sdist, **details}
        self.pages[name][version] = ProjectVersion(version, tags=frozenset(tags), **details)
        self._enter(name, [version], lane)

    def withdraw(self, which):
        """The newest version of a package goes from PyPI."""
        name = self.packages[which % len(self.packages)]
        if self.pages[name]:
            self.pages[name].popitem()
            self._enter(name, [], None)

    def _enter(self, name, wanted, lane):
        page = ProjectPage(name, name, tuple(self.pages[name].values()))
        with transaction(self.engine) as connection:
            versions.enter(connection, page)
            changed = versions.apply(connection, page, diff(versions.known(connection, name), page))
            changed |= {versions.want(connection, name, version, lane) for version in wanted}
            queue.refresh(connection, changed)

    def alter_version(self, statement, which):
        """*statement* changes the version :version_id; what it changes is judged at once."""
        known = self.version_ids()
        if known:
            version_id = known[which % len(known)]
            with transaction(self.engine) as connection:
                connection.execute(text(statement), {"version_id": version_id})
                queue.refresh(connection, [version_id])

    def alter_package(self, statement, which):
        """*statement* changes the package :name; its versions are judged by the keeper."""
        name = self.packages[which % len(self.packages)]
        with transaction(self.engine) as connection:
            connection.execute(text(statement), {"name": name})
            found = connection.execute(
                text(
                    "SELECT version_id FROM versions JOIN packages USING (package_id)"
                    " WHERE name = :name"
                ),
                {"name": name},
            )
            table.judge_again(connection, found.scalars().all())

    def alter_target(self, statement, minor):
        """*statement* changes the target :target_id; everything is judged by the keeper."""
        with transaction(self.engine) as connection:
            connection.execute(text(statement), {"target_id": self.targets[minor]})
            table.judge_all_again(connection)

    # What slaves do

    def greet(self, minor, size, image, run=RUN):
        """A slave comes, with what is installed there."""
        with transaction(self.engine) as connection:
            machine = leases.Machine(1, 1, 1, "L0", size, run, image)
            label = f"pi-{minor}-{min(size, 2)}"
            leases.put_slave(connection, label, self.targets[minor], machine)

    def claim(self, minor, size=0, draw=claims.draw_token):
        """The order that a slave now holds, or None."""
        speaker = Speaker(self.slaves[minor, size], RUN)
        with transaction(self.engine) as connection:
            answers, _ = claims.grant(connection, [speaker], LEASE, draw)
        order = answers[speaker]
        return order if isinstance(order, leases.Order) else None

    def end(self, minor, size, kind=None, tags=("py3-none-any",), needs=""):
        """A slave's build ends: with a wheel of these tags, or as a failure of this kind."""
        for build_id, token in self.held(minor, size):
            self.conclude(minor, size, self.result(build_id, token, kind, needs), tags)

    def result(self, build_id, token, kind=None, needs=""):
        if kind:
            failed = Outcome.FAILURE
            return Built(token, failed, 1.0, None, kind=FailureClass(kind), needs=needs)
        log = DeliveredFile(LOG_NAME, 1, "0" * 64)
        wheel = DeliveredFile(f"w-{build_id}-py3-none-any.whl", 1, "1" * 64)
        return Built(token, Outcome.SUCCESS, 1.0, log, (wheel,))

    def conclude(self, minor, size, built, tags=("py3-none-any",)):
        """Report, deliver, confirm; returns the last answer."""
        asked = Conclude(Speaker(self.slaves[minor, size], RUN), built.lease, built)
        answer = self._conclude(asked)
        if isinstance(answer, Missing):
            self._place(built, tags)
            answer = self._conclude(asked)
        return answer

    def _conclude(self, asked):
        with transaction(self.engine) as connection:
            answers, touched = conclusion.conclude(connection, [asked], LEASE)
            queue.refresh(connection, touched)
        return answers[asked.lease]

    def _place(self, built, tags):
        self.change(
            "UPDATE uploads SET placed = jsonb_build_object('log', '', 'name', uploads.name,"
            " 'size', 1, 'sha256', '', 'metadata_sha256', '', 'requires_python', '',"
            " 'tags', to_jsonb(CAST(:tags AS text[]))) FROM leases"
            " WHERE leases.build_id = uploads.build_id AND token = :token",
            token=built.lease,
            tags=list(tags),
        )

    def held(self, minor, size):
        with transaction(self.engine) as connection:
            found = leases.held(connection, self.slaves[minor, size])
            return [(each.build_id, each.token) for each in found]

    def lose(self, minor, size):
        """A slave falls silent until its lease runs out."""
        self.change(
            "UPDATE leases SET expires = now() - interval '1 second' WHERE slave_id = :slave_id",
            slave_id=self.slaves[minor, size],
        )
        self.keep()

    def leave(self, minor, size):
        with transaction(self.engine) as connection:
            held = leases.held(connection, self.slaves[minor, size])
            leases.end(connection, [each.build_id for each in held])
            queue.refresh(connection, {each.version_id for each in held})

    def keep(self):
        """The keeper's turns, until nothing is left to do."""
        self.keeper.looked = float("-inf")
        while self.keeper.keep():
            pass

    # What must hold

    def version_ids(self):
        return self.scalars("SELECT version_id FROM versions ORDER BY version_id")

    def expected(self):
        """The queue's rows, as the rule applied to the whole database has them."""
        with transaction(self.engine) as connection:
            ids = self.version_ids()
            targets = table.load_targets(connection)
            facts = table.facts(connection, ids)
            sets = table.tag_sets.known(connection)
            return {
                (
                    version_id,
                    target_id,
                    verdict.lane,
                    each.popularity,
                    verdict.attempts,
                    verdict.size,
                    verdict.avoid,
                    max(verdict.not_before, queue.LONG_AGO),
                )
                for version_id, each in facts.items()
                for target_id, verdict in verdicts(table.version_of(each, sets), targets).items()
                if verdict.state is State.WAITING
            }

    def present(self):
        with transaction(self.engine) as connection:
            return {
                (
                    row.version_id,
                    row.target_id,
                    row.lane,
                    row.popularity,
                    row.attempts,
                    row.size,
                    row.avoid,
                    row.not_before,
                )
                for row in table.rows(connection, self.version_ids())
            }

    def check(self):
        """The table is what the rule says; its figures are those of its rows; nothing that is
        being built waits, nothing is built twice at once.
        """
        assert self.present() == self.expected()
        counted = "SELECT target_id, lane, ready, count(*) FROM queue GROUP BY 1, 2, 3"
        summed = (
            "SELECT target_id, lane, ready, sum(waiting) FROM (SELECT * FROM queue_counts"
            " UNION ALL SELECT * FROM queue_changes) AS all_of_it GROUP BY 1, 2, 3"
            " HAVING sum(waiting) <> 0"
        )
        with transaction(self.engine) as connection:
            assert set(connection.execute(text(counted))) == set(connection.execute(text(summed)))
        assert not self.scalars("SELECT 1 FROM queue JOIN leases USING (version_id, target_id)")

    def states(self, version_id):
        with transaction(self.engine) as connection:
            found = queue.standing(connection, [version_id])[version_id]
        return {minor: found[self.targets[minor]] for minor in MINORS}


__all__ = ["MINORS", "Committed", "Farm", "tags_of"]
