"""Everybody at once: claims take no turns with those who keep the queue right."""

import itertools
import random
import threading
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from piwheels.database.connection import transaction
from piwheels.master import queue
from piwheels.model.builds import FailureClass
from tests.database.farm_in_a_database import MINORS, Farm

PACKAGES = 12
ROUNDS = 40  # of each thread
KINDS = (None, None, FailureClass.FETCH_FAILED, FailureClass.SOURCE_ERROR, FailureClass.SLAVE_LOST)
CHANGES = (
    "UPDATE versions SET skip = 'spam' WHERE version_id = :version_id",
    "UPDATE versions SET skip = '' WHERE version_id = :version_id",
    "UPDATE versions SET lane = 0 WHERE version_id = :version_id",
    "DELETE FROM files WHERE version_id = :version_id",
)


@pytest.fixture
def farm(farm_database):
    farm = Farm(farm_database)
    farm.empty()
    for _ in range(PACKAGES):
        farm.add_package()
    yield farm
    farm.engine.dispose()


def build(farm, chance, minor, size):
    """Claim, then end; as slaves of this size do on this target."""
    for _ in range(ROUNDS):
        farm.claim(minor, size)
        farm.end(minor, size, chance.choice(KINDS))
        farm.change("UPDATE queue SET ready = true WHERE NOT ready")


def change(farm, chance):
    for _ in range(ROUNDS):
        farm.alter_version(chance.choice(CHANGES), chance.randrange(PACKAGES))
        farm.release(chance.randrange(PACKAGES), "2.0", lane=chance.choice([0, 1, 2]))


def switch(farm, chance):
    for _ in range(ROUNDS):
        change = chance.choice(["active = NOT active", "rank = 40 - rank"])
        farm.alter_target(
            f"UPDATE targets SET {change} WHERE target_id = :target_id", chance.choice(MINORS)
        )


def keep(farm, done):
    while not done.is_set():
        farm.keep()


@contextmanager
def all_at_once(*works):
    """Each in a thread of its own; an error in one fails the test."""
    errors = []

    def watched(work, arguments):
        try:
            work(*arguments)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=watched, args=(work, rest)) for work, *rest in works]
    for thread in threads:
        thread.start()
    yield threads
    assert not errors


@pytest.mark.parametrize("others", [(), (switch,)], ids=["alone", "while targets change"])
@pytest.mark.parametrize("seed", range(2))
def test_whoever_comes_in_between_the_table_is_right_in_the_end(farm, seed, others):
    chance, done = random.Random(seed), threading.Event()
    keeper = threading.Thread(target=keep, args=(farm, done))
    keeper.start()
    slaves = [(build, farm, random.Random(seed + n), *who) for n, who in enumerate(farm.slaves)]
    try:
        works = [(work, farm, chance) for work in (change, *others)]
        with all_at_once(*slaves, *works) as threads:
            for thread in threads:
                thread.join()
    finally:
        done.set()
        keeper.join()
    farm.keep()
    farm.check()
    assert not farm.scalars("SELECT 1 FROM rejudge")
    doubled = "SELECT version_id FROM files GROUP BY version_id, name HAVING count(*) > 1"
    assert not farm.scalars(doubled)


@contextmanager
def just_before(engine, number, work):
    """Do *work* between two statements of the next transaction: before that of this number."""
    seen = itertools.count()

    def intervene(connection, *_):
        if connection is watched[0] and next(seen) == number:
            work()

    watched = []

    def watch(connection):
        if not watched:
            watched.append(connection)

    event.listen(engine, "begin", watch)
    event.listen(engine, "before_cursor_execute", intervene)
    try:
        yield
    finally:
        event.remove(engine, "begin", watch)
        event.remove(engine, "before_cursor_execute", intervene)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE versions SET lane = 1 WHERE version_id = :version_id",
        "UPDATE versions SET skip = 'spam' WHERE version_id = :version_id",
        "SELECT :version_id",
    ],
    ids=["another lane", "skipped", "as it was"],
)
def test_a_claim_may_come_between_any_two_statements(farm, change):
    claimed = 0
    for number in range(12):
        farm.empty()
        farm.add_package()
        (version_id,) = farm.version_ids()
        between = just_before(farm.engine, number, lambda: farm.claim(9, 0))
        with between, transaction(farm.engine) as connection:
            connection.execute(text(change), {"version_id": version_id})
            queue.refresh(connection, [version_id])
        assert not farm.scalars("SELECT 1 FROM queue JOIN leases USING (version_id, target_id)")
        claimed += len(farm.scalars("SELECT 1 FROM leases"))
    assert claimed >= 3  # or nothing ever came between
