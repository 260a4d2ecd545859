"""A PostgreSQL that needs no setting up: made, run and ended by the farm.

In its data directory: `cluster` (PostgreSQL's own), `passwords` (one file per role), `socket`,
`lock`, `postgresql.log`. Everybody must give a password, since builds of strangers' code run
on the same machine under other uids.
"""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from piwheels.farm.postgres_account import Account, choose_account
from piwheels.farm.postgres_binaries import Binaries, choose
from piwheels.farm.postgres_leftovers import end_leftovers
from piwheels.model.errors import PiwheelsError, Unavailable
from piwheels.processes.child import Child, Command, last_line

SUPERUSER = "postgres"

SETTINGS: Mapping[str, str] = {
    # For a machine with 1 GiB that has other things to do.
    "max_connections": "40",
    "shared_buffers": "64MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "256MB",
    "autovacuum_max_workers": "2",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # Nobody replicates from it.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
"""Written into a new cluster's postgresql.conf, where the operator may change them."""

_PORT = 5432
# sun_path holds 108 bytes with the final NUL. Source: unix(7).
_LONGEST_SOCKET = 107


class PostgresInUse(PiwheelsError):
    """Another farm works on this data directory. The operator's to end, or to avoid."""


class PostgresFailed(PiwheelsError):
    """PostgreSQL could not do what it was asked; the text has its last words."""


class EmbeddedPostgres:
    """A database server in a directory.

    Reached by a socket in a private directory: no port to collide with others', and nobody
    else can listen in its place. Only where that path is too long for the kernel, by a free
    port of 127.0.0.1. Both work for root as for an ordinary user.

    prepare, then run child() under a supervisor, then wait_until_ready. The directory is
    locked from prepare until close, or until this process ends.
    """

    def __init__(
        self,
        data: Path,
        binaries: Path | None = None,
        settings: Mapping[str, str] = SETTINGS,
    ) -> None:
        self.data = data.resolve()
        self.cluster = self.data / "cluster"
        self.log = self.data / "postgresql.log"
        self._wanted_binaries = binaries
        self._settings = settings
        self._socket_folder = self.data / "socket"
        self._binaries: Binaries | None = None
        self._account: Account | None = None
        self._lock: int | None = None
        self._port = _PORT

    @property
    def is_by_socket(self) -> bool:
        """Whether it is reached by a socket file and not by a port."""
        return len(os.fsencode(self._socket_folder / f".s.PGSQL.{_PORT}")) <= _LONGEST_SOCKET

    def prepare(self) -> None:
        """Lock the directory, end what an earlier run left there, make the cluster if it is new.

        Can be repeated after a crash at any point. Raise PostgresInUse, PostgresFailed,
        NoPostgres or NoAccount.
        """
        # The server's account must get through; all that lies in here is private by itself.
        self.data.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._take_lock()
        end_leftovers(self.cluster)
        self._binaries = choose(self._wanted_binaries, self._major())
        self._account = choose_account(self.cluster, self._binaries.folder)
        if not self.cluster.exists():
            self._make_cluster(self._binaries, self._account)
        self._account.give(self.cluster)
        self._socket_folder.mkdir(mode=0o700, exist_ok=True)
        self._account.give(self._socket_folder)
        if not self.is_by_socket:
            self._port = _free_port()

    def child(self) -> Child:
        """Describe the server to a supervisor. It ends in order, and after all others."""
        if self._binaries is None or self._account is None:
            raise RuntimeError("prepare first")
        # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for every client to leave.
        words = self._account.command(
            [self._binaries.folder / "postgres", "-D", self.cluster, *self._place()],
            death_signal=signal.SIGINT,
        )
        return Child(
            name="postgresql",
            start=Command(words, environment=_environment(), directory=Path("/"), log=self.log),
            stop_signal=signal.SIGINT,
            stops_last=True,
        )

    def is_ready(self) -> bool:
        """Whether the superuser can connect."""
        try:
            self._connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def wait_until_ready(
        self, timeout: float = 60.0, pause: Callable[[float], object] = time.sleep
    ) -> None:
        """Return once it takes connections; raise Unavailable after *timeout* seconds.

        pause: what to do meanwhile for so many seconds, e.g. a supervisor's poll.
        """
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"PostgreSQL is not ready: {last_line(self.log)} (see {self.log})"
                )
            pause(0.05)

    def ensure_role(self, role: str) -> None:
        """Make sure that a role exists, can log in, and has the password of dsn()."""
        with closing(self._connect("postgres")) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            words = sql.SQL("{} ROLE {} LOGIN PASSWORD {}")
            password = sql.Literal(self._password(role))
            cursor.execute(words.format(verb, sql.Identifier(role), password))

    def ensure_database(self, name: str, owner: str = SUPERUSER) -> None:
        """Make sure that a database exists."""
        with closing(self._connect("postgres")) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if cursor.fetchone() is None:
                words = sql.SQL("CREATE DATABASE {} OWNER {}")
                cursor.execute(words.format(sql.Identifier(name), sql.Identifier(owner)))

    def dsn(self, database: str, role: str = SUPERUSER) -> str:
        """Return the address of a database for SQLAlchemy, with the role's password.

        For files and environments that others cannot read, never for a command line.
        """
        host, port = self._address()
        return (
            f"postgresql+psycopg2://{quote(role, safe='')}:{self._password(role)}"
            f"@/{quote(database, safe='')}?host={quote(host, safe='')}&port={port}"
        )

    def close(self) -> None:
        """Let others use the directory. The server must have ended."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(self.data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise PostgresInUse(
                f"another farm uses {self.data}: end it, or name another directory with --data"
            ) from None
        self._lock = lock

    def _major(self) -> int | None:
        try:
            return int((self.cluster / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def _make_cluster(self, binaries: Binaries, account: Account) -> None:
        """Make it aside and rename it when complete: what a crash leaves is never taken for it."""
        unfinished = self.data / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        account.give(unfinished)
        self._initialise(binaries, account, unfinished)
        with (unfinished / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\n# Written by the farm when it made this cluster.\n")
            file.writelines(f"{name} = '{value}'\n" for name, value in self._settings.items())
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self.cluster)
        _sync_directory(self.data)

    def _initialise(self, binaries: Binaries, account: Account, folder: Path) -> None:
        password_file = self.data / "initial-password"
        _write_private(password_file, self._password(SUPERUSER))
        account.give(password_file)
        durable = self._settings.get("fsync") != "off"
        words: list[str | Path] = [
            *(binaries.folder / "initdb", "--pgdata", folder, "--username", SUPERUSER),
            *("--pwfile", password_file, "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--locale", "C"),
            *([] if durable else ["--no-sync"]),
        ]
        answer = subprocess.run(
            account.command(words),
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        password_file.unlink()
        if answer.returncode != 0:
            raise PostgresFailed(
                f"PostgreSQL could not make {folder}; remove what stands in its way:\n"
                + answer.stdout.strip()
            )

    def _password(self, role: str) -> str:
        """Return the role's password, a new one at the first call."""
        file = self.data / "passwords" / quote(role, safe="")
        if not file.exists():
            file.parent.mkdir(mode=0o700, exist_ok=True)
            _write_private(file, secrets.token_urlsafe(32))
        return file.read_text()

    def _address(self) -> tuple[str, int]:
        return (str(self._socket_folder), _PORT) if self.is_by_socket else ("127.0.0.1", self._port)

    def _place(self) -> list[str]:
        """Return where the server shall listen, as its options."""
        if self.is_by_socket:
            return ["-k", str(self._socket_folder), "-p", str(_PORT), "-h", ""]
        return ["-k", "", "-p", str(self._port), "-h", "127.0.0.1"]

    def _connect(self, database: str) -> "psycopg2.extensions.connection":
        host, port = self._address()
        return psycopg2.connect(
            host=host,
            port=port,
            user=SUPERUSER,
            password=self._password(SUPERUSER),
            dbname=database,
            connect_timeout=5,
        )


def _environment() -> dict[str, str]:
    """Our own, without what would redirect PostgreSQL or translate what it says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, all or nothing."""
    unfinished = file.with_name(f".{file.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(file)
    _sync_directory(file.parent)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
