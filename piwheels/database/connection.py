"""Connections to PostgreSQL, and being woken by it."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from piwheels.database.prepared import prepare_statements
from piwheels.model.errors import PiwheelsError, Unavailable

CONNECT_SECONDS = 10
PROBES = (  # one plan for each statement, that holds at every size: index after index
    "-c enable_seqscan=off",
    "-c enable_hashjoin=off",
    "-c enable_mergejoin=off",
    "-c plan_cache_mode=force_generic_plan",
)


class BadDsn(PiwheelsError):
    """The address of the database cannot be read. The operator's fault."""


def connect(dsn: str, is_probing: bool = False) -> Engine:
    """Return an engine for *dsn*; nothing is connected yet. Raise BadDsn.

    Both postgresql:// and postgresql+psycopg2:// are understood. is_probing: for those who only
    ever look up a few rows: tables are never read as a whole where there is an index. Else a
    plan that was made while a table was small is kept for some time after it has grown.
    """
    try:
        url = make_url(dsn)
    except ArgumentError as error:
        raise BadDsn(
            f"cannot read the database address {dsn!r}: write it as "
            "postgresql://ROLE@HOST/DATABASE, or postgresql:///DATABASE for a local server"
        ) from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg2")
    if url.drivername != "postgresql+psycopg2":
        raise BadDsn(f"the database must be PostgreSQL, not {url.drivername}")
    arguments: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
    if is_probing:
        arguments["options"] = " ".join([str(url.query.get("options", "")), *PROBES])
    engine = create_engine(
        url,
        pool_size=2,
        max_overflow=2,
        pool_pre_ping=not is_probing,  # who is always at work finds out by itself
        connect_args=arguments,
    )
    prepare_statements(engine)
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction; raise Unavailable if the database cannot be reached.

    A deadlock or another conflict stays a DBAPIError: the caller may try again at once.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        if error.connection_invalidated or is_about_the_server(error):
            raise Unavailable(f"the database: {first_line(error)}") from error
        raise


def is_about_the_server(error: DBAPIError) -> bool:
    """Whether *error* is the server's state and not the statement's fault.

    Source: PostgreSQL error codes, classes 08, 53, 57, 58; a connection that fails has none.
    """
    code = getattr(error.orig, "pgcode", None)
    if code is None:
        return isinstance(error, OperationalError)
    return str(code).startswith(("08", "53", "57", "58"))


def first_line(error: DBAPIError) -> str:
    """What PostgreSQL said, in one line."""
    return str(error.orig).strip().splitlines()[0]


class WakeUps:
    """LISTENs to *channels*; its descriptor becomes readable on any notification."""

    def __init__(self, engine: Engine, *channels: str) -> None:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        try:
            self.connection = psycopg2.connect(url, connect_timeout=CONNECT_SECONDS)
        except psycopg2.OperationalError as error:
            raise Unavailable(f"the database: {str(error).strip().splitlines()[0]}") from error
        self.connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with self.connection.cursor() as cursor:
            for channel in channels:
                cursor.execute(f'LISTEN "{channel}"')
        self.descriptor = self.connection.fileno()

    def drain(self) -> set[tuple[str, str]]:
        """The channels that were notified since the last call, each with what was said there.

        Raise Unavailable.
        """
        try:
            self.connection.poll()
        except psycopg2.Error as error:
            raise Unavailable("the database closed the connection") from error
        said = {(notify.channel, notify.payload) for notify in self.connection.notifies}
        self.connection.notifies.clear()
        return said

    def wait(self, seconds: float) -> set[tuple[str, str]]:
        """Wait for a notification at most *seconds*; return what ``drain`` does."""
        select.select([self.descriptor], [], [], seconds)
        return self.drain()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
