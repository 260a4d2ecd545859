"""A PostgreSQL to measure: with the farm's own settings, durable, in a directory that may be kept.

Unlike the one for tests it loses nothing in a power cut: what a commit costs is measured too.
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql
from sqlalchemy import Engine, make_url

from piwheels.database.connection import connect
from piwheels.database.schema import initialize
from piwheels.farm.postgres import SETTINGS, EmbeddedPostgres
from piwheels.model.errors import PiwheelsError
from piwheels.processes.child import Command
from scripts.benchmarks.result import BenchmarkFailed

ROLE = "piwheels"  # the daemon's: it owns nothing
END_SECONDS = 300.0  # a large checkpoint takes its time


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the server. owner: for making data; daemon: as the farm's services."""

    name: str
    owner: str
    daemon: str

    def engine(self) -> Engine:
        """As a service connects."""
        return connect(self.daemon, is_probing=True)

    @contextmanager
    def as_owner(self) -> Iterator["psycopg2.extensions.connection"]:
        """A connection of the superuser, whose every statement is a transaction."""
        with closing(psycopg2.connect(plain(self.owner))) as connection:
            connection.autocommit = True
            yield connection

    def value(self, statement: str, *parameters: object) -> object:
        """The one value of a query."""
        with self.as_owner() as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            row = cursor.fetchone()
            return row[0] if row else None


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs. pid: of the postmaster, parent of all its other processes."""

    postgres: EmbeddedPostgres
    pid: int

    def database(self, name: str) -> Database:
        """The address of a database, which need not exist."""
        return Database(name, self.postgres.dsn(name), self.postgres.dsn(name, ROLE))

    def create(self, name: str, template: str = "") -> Database:
        """Make a database, dropping one that is there: with the schema, or a copy of *template*."""
        self.drop(name)
        if template:
            words = "CREATE DATABASE {} TEMPLATE {}"
            words += " STRATEGY FILE_COPY" if self.major() >= 15 else ""
            self._run(words, name, template)
        else:
            self._run("CREATE DATABASE {}", name)
            self.postgres.ensure_role(ROLE)
            initialize(self.postgres.dsn(name), ROLE)
        return self.database(name)

    def drop(self, name: str) -> None:
        """Remove a database, if it is there."""
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def set(self, settings: Mapping[str, str]) -> None:
        """Change what can be changed while it runs; an empty value is the usual one again."""
        for name, value in settings.items():
            if value:
                self._run(f"ALTER SYSTEM SET {{}} = '{value}'", name)
            else:
                self._run("ALTER SYSTEM RESET {}", name)
        self._run("SELECT pg_reload_conf()")

    def checkpoint(self) -> None:
        """Write down what was changed so far, so that it does not disturb what is measured."""
        self._run("CHECKPOINT")

    def has(self, name: str) -> bool:
        """Whether there is a database of this name."""
        query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)"
        return bool(self.database("postgres").value(query, name))

    def version(self) -> str:
        """E.g. 16.4."""
        return str(self.database("postgres").value("SHOW server_version"))

    def major(self) -> int:
        """E.g. 16."""
        return int(self.version().split(".")[0])

    def _run(self, statement: str, *names: str) -> None:
        words = sql.SQL(statement).format(*map(sql.Identifier, names))
        with self.database("postgres").as_owner() as connection, connection.cursor() as cursor:
            cursor.execute(words)


@contextmanager
def running_server(folder: Path, settings: Mapping[str, str] = SETTINGS) -> Iterator[Server]:
    """A server in *folder*, ended in order; a cluster that is there keeps its own settings.

    Raise BenchmarkFailed if there can be none.
    """
    postgres = EmbeddedPostgres(folder, settings=settings)
    try:
        postgres.prepare()
        command = postgres.child().start
        assert isinstance(command, Command)
        with postgres.log.open("ab") as log:
            process = subprocess.Popen(
                command.words,
                env=command.environment,
                cwd=command.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            postgres.wait_until_ready(pause=_pause(process))
            yield Server(postgres, process.pid)
        finally:
            if process.poll() is None:
                process.send_signal(postgres.child().stop_signal)
            process.wait(END_SECONDS)
            postgres.close()
    except PiwheelsError as error:
        raise BenchmarkFailed(str(error)) from error


def plain(dsn: str) -> str:
    """An address for psycopg2."""
    return make_url(dsn).set(drivername="postgresql").render_as_string(hide_password=False)


def _pause(process: "subprocess.Popen[bytes]") -> Callable[[float], None]:
    """A wait of so many seconds, unless the server has ended."""

    def pause(seconds: float) -> None:
        if process.poll() is not None:
            raise BenchmarkFailed(f"PostgreSQL ended with status {process.returncode}")
        time.sleep(seconds)

    return pause
