import threading

import psycopg2
import pytest
from sqlalchemy import make_url

from piwheels.database import schema
from piwheels.database.connection import connect
from piwheels.database.schema import WrongRole, WrongSchema, check, initialize, plan
from piwheels.model.errors import Unavailable
from tests.postgres_fixture import cursor


@pytest.fixture
def owner(database):
    """A cursor of the owner, each statement a transaction."""
    with cursor(database) as statements:
        yield statements


@pytest.fixture
def role(owner):
    """The name of a role of this test's own; roles are the server's, not the database's."""
    owner.execute("SELECT 'farm_' || oid FROM pg_database WHERE datname = current_database()")
    (name,) = owner.fetchone()
    yield name
    owner.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    if owner.fetchone():
        owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
def engines():
    made = []

    def engine(dsn):
        made.append(connect(dsn))
        return made[-1]

    yield engine
    for one in made:
        one.dispose()


def as_role(dsn, role):
    url = make_url(dsn).set(username=role, password="secret")
    return url.render_as_string(hide_password=False)


def ask(owner, statement):
    owner.execute(statement)
    return owner.fetchone()[0]


def test_an_empty_database_gets_the_schema(database, role, engines):
    initialize(database, role)
    check(engines(database))


def test_what_was_done_is_said_in_words(database, role):
    assert initialize(database, role).words == (
        "apply the migration 0001.first",
        "apply the migration 0002.queue",
        "apply the migration 0003.tracker",
        f"create the role {role}, which may log in",
        f"let {role} read and write the rows of all tables, and nothing else",
    )


def test_doing_it_again_changes_nothing(database, role, owner):
    initialize(database, role)
    owner.execute("INSERT INTO packages (name, display_name) VALUES ('six', 'six')")
    done = initialize(database, role)
    assert (done.migrations, done.creates_role) == ((), False)
    assert ask(owner, "SELECT count(*) FROM packages") == 1


def test_a_plan_changes_nothing(database, role, owner):
    assert plan(database, role).migrations == ("0001.first", "0002.queue", "0003.tracker")
    assert ask(owner, "SELECT to_regclass('packages')") is None


def test_a_migration_that_fails_leaves_nothing_behind(database, role, owner):
    owner.execute("CREATE TABLE page_jobs (somebody_else_s integer)")
    with pytest.raises(WrongSchema, match="database of its own"):
        initialize(database, role)
    assert ask(owner, "SELECT to_regclass('packages')") is None
    assert ask(owner, "SELECT to_regclass('_yoyo_migration')") is None
    assert ask(owner, f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'") == 0


def test_several_at_once_take_turns(database, role):
    done, failed = [], []

    def run():
        try:
            done.append(initialize(database, role))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(len(one.migrations) for one in done) == [0, 0, 0, 3]


def test_the_role_may_work_with_rows(database, role, engines):
    initialize(database, role, password="secret")
    with cursor(as_role(database, role)) as statements:
        statements.execute("INSERT INTO packages (name, display_name) VALUES ('six', 'six')")
        statements.execute("UPDATE packages SET summary = 'two and three'")
        statements.execute("DELETE FROM packages")
        assert statements.rowcount == 1


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine ()",
        "DROP TABLE packages",
        "ALTER TABLE packages ADD COLUMN odd text",
        "TRUNCATE packages CASCADE",
        "INSERT INTO _yoyo_migration VALUES ('x', '9999.future', now())",
        "DELETE FROM _yoyo_migration",
    ],
)
def test_the_role_may_do_nothing_else(database, role, statement):
    initialize(database, role, password="secret")
    forbidden = pytest.raises(psycopg2.errors.InsufficientPrivilege)
    with cursor(as_role(database, role)) as statements, forbidden:
        statements.execute(statement)


def test_the_role_may_check_the_schema(database, role, engines):
    initialize(database, role, password="secret")
    check(engines(as_role(database, role)))


def test_a_role_without_grants_is_sent_to_piw_initdb(database, role, owner, engines):
    initialize(database, role, password="secret")
    owner.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
    with pytest.raises(WrongSchema, match=f"role {role} may not read .* piw-initdb with --user"):
        check(engines(as_role(database, role)))


def test_a_database_without_a_schema_is_sent_to_piw_initdb(database, engines):
    with pytest.raises(WrongSchema, match="no schema: run piw-initdb"):
        check(engines(database))


def test_an_older_schema_is_sent_to_piw_initdb():
    with pytest.raises(WrongSchema, match=r"it lacks 0002\.next\): run piw-initdb"):
        schema.refuse_others({"0001.first"}, ours={"0001.first", "0002.next"})


def test_a_newer_schema_is_refused_by_check_and_by_initialize(database, role, owner, engines):
    initialize(database, role)
    owner.execute("INSERT INTO _yoyo_migration VALUES ('x', '9999.future', now())")
    with pytest.raises(WrongSchema, match=r"it has 9999\.future\): upgrade the programs"):
        check(engines(database))
    with pytest.raises(WrongSchema, match="upgrade the programs"):
        initialize(database, role)


def test_the_daemon_must_not_be_the_owner(database, owner):
    with pytest.raises(WrongRole, match="name another --user"):
        initialize(database, ask(owner, "SELECT current_user"))


def test_a_role_that_may_not_log_in_is_refused(database, role, owner):
    owner.execute(f"CREATE ROLE {role} NOLOGIN")
    with pytest.raises(WrongRole, match="may not log in"):
        initialize(database, role)


def test_somebody_who_is_not_the_owner_is_refused(database, role):
    initialize(database, role, password="secret")
    with pytest.raises(WrongRole, match="database's owner or a superuser"):
        initialize(as_role(database, role), "another_farm")


def test_a_name_that_needs_quoting_is_a_name(database, owner):
    name = 'Farm "%s"; --'
    try:
        assert initialize(database, name).creates_role
        owner.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", [name])
        assert owner.fetchone() == (True,)
    finally:
        quoted = '"' + name.replace('"', '""') + '"'
        owner.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")


def test_a_server_that_is_away_is_said_to_be():
    with pytest.raises(Unavailable, match="the database: "):
        plan("postgresql://nobody@127.0.0.1:1/none", "farm")
