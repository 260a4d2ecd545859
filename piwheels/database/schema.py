"""Creating, upgrading and checking the schema: yoyo-migrations over sql/migrations.

The owner creates and migrates; the daemon's role owns nothing and may only work with rows.
"""

from collections.abc import Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Self

import psycopg2
from psycopg2.errors import DuplicateObject, DuplicateTable, InsufficientPrivilege, UniqueViolation
from psycopg2.sql import SQL, Composable, Identifier, Literal
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError
from yoyo import internalmigrations, read_migrations
from yoyo.backends.base import SavepointTransactionManager
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.connections import parse_uri

from piwheels.database.connection import connect, transaction
from piwheels.model.errors import PiwheelsError, Unavailable

MIGRATIONS = "package:piwheels.sql:migrations"
MIGRATION_TABLE = "_yoyo_migration"
OLDEST_SERVER = 13
TURN = 0x70697768  # the advisory lock under which one piw-initdb waits for another


class WrongSchema(PiwheelsError):
    """The database has no schema, or not this release's. The operator's fault."""


class WrongServer(PiwheelsError):
    """A PostgreSQL that is too old. The operator's fault."""


class WrongRole(PiwheelsError):
    """A role that cannot be the daemon's, or that may not do the owner's work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do. migrations: their names, oldest first."""

    migrations: tuple[str, ...]
    role: str
    creates_role: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The same for people, a line for each step."""
        return (
            *(f"apply the migration {name}" for name in self.migrations),
            *([f"create the role {self.role}, which may log in"] if self.creates_role else []),
            f"let {self.role} read and write the rows of all tables, and nothing else",
        )


def plan(owner_dsn: str, role: str) -> Plan:
    """What ``initialize`` would do; changes nothing. Raise what it raises."""
    with _owners_work(owner_dsn) as connection:
        return _plan(connection, role)


def initialize(owner_dsn: str, role: str, password: str | None = None) -> Plan:
    """Create or upgrade the schema, and the daemon's *role*, in one transaction.

    Return what was done. Doing it again does no harm; several at once take turns.
    password: the role's new one; None leaves it as it is, or creates the role without.
    Raise BadDsn, Unavailable, WrongServer, WrongRole, and WrongSchema if it is newer or
    somebody else's.
    """
    with _owners_work(owner_dsn) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": TURN})
        planned = _plan(connection, role)
        _migrate(connection)
        if planned.creates_role:
            _create_role(connection, role)
        if password is not None:
            _run(connection, "ALTER ROLE {} PASSWORD {}", Identifier(role), Literal(password))
        _grant(connection, role)
    return planned


def check(engine: Engine) -> None:
    """Raise WrongSchema unless the database has exactly this release's schema."""
    try:
        with transaction(engine) as connection:
            applied = _applied(connection)
    except ProgrammingError as error:
        if not isinstance(error.orig, InsufficientPrivilege):
            raise
        raise WrongSchema(
            f"the role {engine.url.username or 'of this process'} may not read the schema: "
            "run piw-initdb with --user and its name"
        ) from error
    refuse_others(applied, _ours())


def refuse_others(applied: Set[str], ours: Set[str]) -> None:
    """Raise WrongSchema unless the migrations *applied* are exactly *ours*."""
    if not applied:
        raise WrongSchema("the database has no schema: run piw-initdb as its owner")
    _refuse_newer(applied, ours)
    if missing := sorted(ours - applied):
        raise WrongSchema(
            f"the database's schema is older than these programs (it lacks {', '.join(missing)}): "
            "run piw-initdb as its owner"
        )


@contextmanager
def _owners_work(dsn: str) -> Iterator[Connection]:
    """One transaction of the owner's, what may be refused in it said in words."""
    engine = connect(dsn)
    try:
        with transaction(engine) as connection:
            yield connection
    except (psycopg2.Error, ProgrammingError) as error:
        raise _in_words(error.orig if isinstance(error, ProgrammingError) else error) from error
    finally:
        engine.dispose()


def _in_words(error: BaseException | None) -> BaseException:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else "it closed"
    match error:
        case InsufficientPrivilege():
            return WrongRole(
                f"this role may not do the owner's work ({reason}): "
                "give --dsn with the database's owner or a superuser"
            )
        case DuplicateTable():
            return WrongSchema(
                f"the database holds tables that are not the farm's ({reason}): "
                "give --dsn with a database of its own"
            )
        case psycopg2.OperationalError():
            return Unavailable(f"the database: {reason}")
    return error or RuntimeError("no error")


def _plan(connection: Connection, role: str) -> Plan:
    _refuse_old_server(connection)
    applied, ours = _applied(connection), _ours()
    _refuse_newer(applied, ours)
    return Plan(
        migrations=tuple(sorted(ours - applied)),
        role=role,
        creates_role=not _is_role(connection, role),
    )


def _refuse_old_server(connection: Connection) -> None:
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if number < OLDEST_SERVER * 10_000:
        raise WrongServer(f"PostgreSQL {number // 10_000} is too old: use {OLDEST_SERVER} or newer")


def _refuse_newer(applied: Set[str], ours: Set[str]) -> None:
    if unknown := sorted(applied - ours):
        raise WrongSchema(
            f"the database's schema is newer than these programs (it has {', '.join(unknown)}): "
            "upgrade the programs"
        )


def _ours() -> set[str]:
    """The names of this release's migrations."""
    names = [path.name for path in (files("piwheels.sql") / "migrations").iterdir()]
    return {name.removesuffix(".sql") for name in names if name.endswith(".sql")}


def _applied(connection: Connection) -> set[str]:
    """The names of the migrations that the database has seen; none if yoyo never ran."""
    where = {"table": MIGRATION_TABLE}
    if connection.execute(text("SELECT to_regclass(:table)"), where).scalar_one() is None:
        return set()
    return set(connection.execute(text(f"SELECT migration_id FROM {MIGRATION_TABLE}")).scalars())


def _is_role(connection: Connection, role: str) -> bool:
    """Whether there is a *role*. Raise WrongRole if it cannot be a daemon's."""
    row = connection.execute(
        text(
            "SELECT rolsuper, rolcanlogin, rolname = current_user AS is_owner"
            " FROM pg_roles WHERE rolname = :role"
        ),
        {"role": role},
    ).one_or_none()
    if row is None:
        return False
    if row.rolsuper or row.is_owner:
        what = "is a superuser" if row.rolsuper else "owns the schema"
        raise WrongRole(f"the daemon must not run as {role}, which {what}: name another --user")
    if not row.rolcanlogin:
        raise WrongRole(f"the role {role} may not log in: name another --user")
    return True


class _OneTransaction(PostgresqlBackend):  # type: ignore[misc]  # yoyo has no types
    """Yoyo within the caller's transaction: where it would begin one, it makes a savepoint."""

    def __init__(self, session: Any) -> None:
        self.session = session
        super().__init__(parse_uri("postgresql:///"), MIGRATION_TABLE)

    def connect(self, dburi: object) -> Any:
        """The session that is there already."""
        return self.session

    def copy(self) -> AbstractContextManager[Self]:
        """The same session again; it stays open."""
        return nullcontext(self)

    def transaction(self, rollback_on_exit: bool = False) -> SavepointTransactionManager:
        """A savepoint."""
        return SavepointTransactionManager(self, rollback_on_exit)

    def ensure_internal_schema_updated(self) -> None:
        """Put yoyo's own tables there; it would commit here."""
        if internalmigrations.needs_upgrading(self):
            internalmigrations.upgrade(self)

    def log_migration(self, migration: object, operation: str) -> None:
        """Keep no journal: yoyo's names this host, which can take the DNS minutes to find."""


def _migrate(connection: Connection) -> None:
    backend = _OneTransaction(connection.connection.driver_connection)
    backend.apply_migrations(backend.to_apply(read_migrations(MIGRATIONS)))


def _create_role(connection: Connection, role: str) -> None:
    try:
        with connection.begin_nested():
            _run(connection, "CREATE ROLE {} LOGIN", Identifier(role))
    except (DuplicateObject, UniqueViolation):
        return  # a piw-initdb in another database of this server was faster


def _grant(connection: Connection, role: str) -> None:
    """Grant the daemon what it needs, and nobody what they do not."""
    database, schema = connection.execute(text("SELECT current_database(), current_schema()")).one()
    who, where = Identifier(role), Identifier(schema)
    _run(connection, "GRANT CONNECT ON DATABASE {} TO {}", Identifier(database), who)
    _run(connection, "REVOKE CREATE ON SCHEMA {} FROM PUBLIC", where)
    _run(connection, "GRANT USAGE ON SCHEMA {} TO {}", where, who)
    rows = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO {}"
    _run(connection, rows, where, who)
    _run(connection, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA {} TO {}", where, who)
    for table in (MIGRATION_TABLE, "_yoyo_version", "_yoyo_log", "yoyo_lock"):
        _refuse_writing(connection, table, role)


def _refuse_writing(connection: Connection, table: str, role: str) -> None:
    """Let the daemon read what the schema is, not say so."""
    where = {"table": table}
    if connection.execute(text("SELECT to_regclass(:table)"), where).scalar_one() is not None:
        refuse = "REVOKE INSERT, UPDATE, DELETE ON {} FROM {}"
        _run(connection, refuse, Identifier(table), Identifier(role))


def _run(connection: Connection, statement: str, *parts: Composable) -> None:
    """Run a statement whose *parts* cannot be bound as values; they are quoted instead."""
    session = connection.connection.driver_connection
    assert session is not None
    with session.cursor() as cursor:
        cursor.execute(SQL(statement).format(*parts))
