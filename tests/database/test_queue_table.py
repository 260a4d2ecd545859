"""The table queue against its rule, on random histories in a real database."""

import itertools
import secrets
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from piwheels.database import leases
from piwheels.database import queue as table
from piwheels.database.connection import connect, transaction
from piwheels.database.schema import initialize
from piwheels.master import queue
from piwheels.model.builds import FailureClass
from piwheels.model.queue import State
from piwheels.model.targets import TargetOffer
from piwheels.rules.queue import verdicts

PYTHONS = (9, 11, 13)
ROLES = itertools.count()


def tags_of(minor):
    return (f"cp3{minor}-cp3{minor}-linux_armv7l", "cp39-abi3-linux_armv7l", "py3-none-any")


class Database:
    """Some versions, three targets with a slave each, and what can happen to them."""

    def __init__(self, dsn):
        initialize(dsn, f"role_{time.monotonic_ns()}_{next(ROLES)}")
        self.engine = connect(dsn)
        with transaction(self.engine) as connection:
            self.targets = {
                minor: leases.put_target(
                    connection,
                    TargetOffer(f"cp3{minor}-linux_armv7l", "", f"3.{minor}.1", tags_of(minor)),
                    rank=minor,
                    active=True,
                )
                for minor in PYTHONS
            }
            self.slaves = {
                minor: leases.put_slave(
                    connection, f"pi-{minor}", self.targets[minor], leases.Machine(1, 1, 1, "L0")
                )
                for minor in PYTHONS
            }

    def empty(self):
        with transaction(self.engine) as connection:
            connection.execute(text("TRUNCATE packages, leases, builds CASCADE"))
            connection.execute(text("UPDATE targets SET active = true"))
        self.versions = []

    def add(self):
        with transaction(self.engine) as connection:
            name = f"p{len(self.versions)}"
            version_id = connection.execute(
                text(
                    "WITH p AS (INSERT INTO packages (name, display_name) VALUES (:name, :name) "
                    "RETURNING package_id) INSERT INTO versions (package_id, version, lane, "
                    "sdist_name, sdist_sha256) SELECT package_id, '1.0', 0, 'x', 'y' FROM p "
                    "RETURNING version_id"
                ),
                {"name": name},
            ).scalar_one()
            queue.refresh(connection, [version_id])
        self.versions.append(version_id)

    def change(self, statement, version_id):
        with transaction(self.engine) as connection:
            connection.execute(text(statement), {"version_id": version_id})
            queue.refresh(connection, [version_id])

    def claim(self, minor):
        """Returns the token of the build that the slave now holds, or None."""
        with transaction(self.engine) as connection:
            slave = self.slaves[minor]
            order = leases.claim(connection, slave, secrets.token_bytes(16), 60)
            return order and order.token

    def end(self, minor, kind, tags):
        """The slave's build ends: with a wheel of these tags, or as a failure of this kind."""
        with transaction(self.engine) as connection:
            for held in leases.held(connection, self.slaves[minor]):
                lease = leases.reported(connection, self.slaves[minor], held.token)
                outcome = "failure" if kind else "success"
                build = dict.fromkeys(("cause", "fix", "sandbox", "log"), "")
                build |= {"outcome": outcome, "kind": kind or "", "seconds": 1}
                build |= {"peak_memory": 0, "cpu_seconds": 0, "network_used": False}
                build |= {"phases": {}, "environment": {}}
                leases.put_build(connection, held.build_id, build)
                if not kind:
                    placed = {"name": f"{held.build_id}.whl", "size": 1, "sha256": "", "tags": tags}
                    placed |= {"metadata_sha256": "", "requires_python": ""}
                    leases.put_file(connection, lease, placed)
                leases.end(connection, held.build_id)
                queue.refresh(connection, [held.version_id])

    def lose(self, minor):
        with transaction(self.engine) as connection:
            for held in leases.held(connection, self.slaves[minor]):
                leases.give_up(connection, held.build_id, "gone")
                queue.refresh(connection, [held.version_id])

    def switch(self, minor, active):
        with transaction(self.engine) as connection:
            connection.execute(
                text("UPDATE targets SET active = :active WHERE target_id = :target_id"),
                {"active": active, "target_id": self.targets[minor]},
            )
        queue.refresh_all(self.engine)

    def check(self):
        """The table is what the rule says of the whole database."""
        with transaction(self.engine) as connection:
            targets = table.load_targets(connection)
            expected = {
                (version_id, target_id)
                for version_id, facts in table.facts(connection, self.versions).items()
                for target_id, verdict in verdicts(facts.version, targets).items()
                if verdict.state is State.WAITING
            }
            assert {row.key for row in table.rows(connection, self.versions)} == expected


MINORS = st.sampled_from(PYTHONS)
STEPS = st.one_of(
    st.tuples(st.just("add")),
    st.tuples(st.just("claim"), MINORS),
    st.tuples(
        st.just("end"),
        MINORS,
        st.none() | st.sampled_from(FailureClass).map(str),
        st.sampled_from([["py3-none-any"], ["cp39-abi3-linux_armv7l"], [tags_of(9)[0]]]),
    ),
    st.tuples(st.just("lose"), MINORS),
    st.tuples(st.just("switch"), MINORS, st.booleans()),
    st.tuples(
        st.just("change"),
        st.sampled_from(
            [
                "UPDATE versions SET skip = 'spam' WHERE version_id = :version_id",
                "UPDATE versions SET skip = '' WHERE version_id = :version_id",
                "UPDATE versions SET lane = NULL WHERE version_id = :version_id",
                "UPDATE versions SET lane = 0 WHERE version_id = :version_id",
                "UPDATE versions SET sdist_name = '' WHERE version_id = :version_id",
                "UPDATE versions SET requires_python = '>=3.10' WHERE version_id = :version_id",
                "UPDATE versions SET asked = now() WHERE version_id = :version_id",
                "DELETE FROM files WHERE version_id = :version_id",
            ]
        ),
        st.integers(0, 3),
    ),
)


@pytest.fixture
def world(database):
    world = Database(database)
    yield world
    world.engine.dispose()


@given(st.lists(STEPS, max_size=25))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_after_any_history_the_table_is_what_the_rule_says(world, steps):
    world.empty()
    world.add()
    for step in steps:
        match step:
            case ("change", statement, which):
                world.change(statement, world.versions[which % len(world.versions)])
            case (name, *arguments):
                getattr(world, name)(*arguments)
        world.check()


def test_a_slave_that_asks_twice_gets_the_build_it_has(world):
    world.empty()
    world.add()
    world.add()
    assert world.claim(9) == world.claim(9)


def test_the_newest_release_of_the_first_lane_is_claimed_first(world):
    world.empty()
    for _ in range(3):
        world.add()
    old, backlog, new = world.versions
    world.change("UPDATE versions SET released = '2020-01-01' WHERE version_id = :version_id", old)
    world.change("UPDATE versions SET released = '2026-01-01' WHERE version_id = :version_id", new)
    world.change(
        "UPDATE versions SET lane = 2, released = '2027-01-01' WHERE version_id = :version_id",
        backlog,
    )
    claimed = []
    for _ in range(3):
        world.claim(9)
        with transaction(world.engine) as connection:
            claimed += [held.version_id for held in leases.held(connection, world.slaves[9])]
        world.end(9, None, ["py3-none-any"])
    assert claimed == [new, old, backlog]
