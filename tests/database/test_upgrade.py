"""A farm of the release before: its rows outlive piw-initdb, and mean the same."""

import pytest
from sqlalchemy import make_url, text
from yoyo import read_migrations

from piwheels.database import schema
from piwheels.database.connection import connect, transaction
from piwheels.model.queue import State
from tests.database.farm_in_a_database import Farm

OLD = "0001.first"
ROWS = """
INSERT INTO tag_sets (tags) VALUES (ARRAY['py3-none-any', 'cp39-cp39-linux_armv7l']);
INSERT INTO targets (name, label, python, rank, active, settled, tag_set_id)
    VALUES ('cp39-linux_armv7l', '', '3.9.1', 9, true, true, 1);
INSERT INTO slaves (label, target_id, cores, memory, disk, sandbox)
    VALUES ('pi', 1, 4, 1, 1, 'L0');
INSERT INTO packages (name, display_name, policy, popularity)
    VALUES ('waiting', 'Waiting', 'all', 7), ('retried', 'r', 'all', 0), ('failed', 'f', 'all', 0);
INSERT INTO versions (package_id, version, lane, asked, sdist_name, sdist_sha256)
    VALUES (1, '1.0', 0, '-infinity', 'w.tar.gz', 'a'),
        (2, '1.0', 0, now(), 'r.tar.gz', 'a'), (3, '1.0', 0, '-infinity', 'f.tar.gz', 'a');
INSERT INTO builds (build_id, token, version_id, target_id, slave_id, started, ended, seconds,
    outcome, kind)
    VALUES (1, '1', 2, 1, 1, now(), now() - interval '1 day', 1, 'failure',
            'compile or source error'),
        (2, '2', 3, 1, 1, now(), now() - interval '1 day', 1, 'failure',
            'compile or source error');
INSERT INTO queue (version_id, target_id, lane, popularity, released, not_before, attempts)
    VALUES (1, 1, 0, 7, '2020-01-01', '-infinity', 0), (2, 1, 0, 0, '2020-01-01', '-infinity', 0);
"""


@pytest.fixture
def old(database):
    """A database with the schema of the release before, and some rows."""
    engine = connect(database)
    with transaction(engine) as connection:
        backend = schema._OneTransaction(connection.connection.driver_connection)
        first = read_migrations(schema.MIGRATIONS).filter(lambda migration: migration.id == OLD)
        backend.apply_migrations(backend.to_apply(first))
        connection.execute(text(ROWS))
    yield database
    engine.dispose()


def test_what_waited_and_what_had_failed_is_known_after_the_upgrade(old):
    role = make_url(old).database.replace("test", "role")
    assert schema.initialize(old, role).migrations == ("0002.queue", "0003.tracker")
    farm = Farm(old)
    farm.keep()
    farm.check()
    waiting, retried, failed = farm.version_ids()
    assert farm.states(waiting)[9].state is State.WAITING
    assert farm.states(retried)[9].state is State.WAITING  # it was asked for after it failed
    assert farm.states(failed)[9].state is State.FAILED
    farm.engine.dispose()
