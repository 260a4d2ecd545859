"""A PostgreSQL for tests: one server per test run, one fresh database per test.

    from tests.postgres_fixture import database, postgres  # in a conftest.py

PIW_TEST_POSTGRES chooses the binaries: embedded (the Python package's) or debian (the
system's). All xdist workers share the server. Each holds a FIFO open that the server's process
reads; when the last one ends, however it ends, the server is told by the end of file.
"""

import fcntl
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import rmtree

import psycopg2
import pytest
from sqlalchemy import make_url

from piwheels.farm.postgres import SETTINGS, EmbeddedPostgres
from piwheels.farm.postgres_binaries import Binaries, bundled, installed
from piwheels.processes.child import Child, Restart
from piwheels.processes.heart import Heart
from piwheels.processes.supervisor import Died, Event, Supervisor

# Data of tests may be lost in a power cut: that makes them fast.
FAST = SETTINGS | {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
}

_SOURCES = {"embedded": bundled, "debian": installed}
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the run's server, as its superuser, for SQLAlchemy."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each worker has its own below the run's
    flavour = os.environ.get("PIW_TEST_POSTGRES", "embedded")
    dsn, hold = _join(base, binaries(flavour))
    yield dsn
    os.close(hold)


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The address of an empty database, as its owner, for SQLAlchemy."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with cursor(postgres) as statements:
        statements.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
    with cursor(postgres) as statements:
        statements.execute(f"DROP DATABASE {name} WITH (FORCE)")


def binaries(flavour: str) -> Path:
    """The folder of the newest PostgreSQL of this flavour."""
    found = [found for place in _SOURCES[flavour]() if (found := Binaries.at(place))]
    if not found:
        pytest.skip(f"no PostgreSQL binaries ({flavour})")
    return max(found, key=lambda candidate: candidate.major).folder


@contextmanager
def cursor(dsn: str) -> Iterator["psycopg2.extensions.cursor"]:
    """A cursor whose every statement is a transaction."""
    address = dsn.replace("postgresql+psycopg2:", "postgresql:", 1)
    with closing(psycopg2.connect(address)) as connection:
        connection.autocommit = True
        with connection.cursor() as statements:
            yield statements


def _join(base: Path, folder: Path) -> tuple[str, int]:
    """Return the server's address and what to hold open while it is needed."""
    with (base / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        current = base / "postgres.current"
        if current.exists():
            home, dsn = current.read_text().splitlines()
            try:
                return dsn, os.open(Path(home, "users"), os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads: it ended with the workers that used it
                current.unlink()
        home = base / f"postgres-{os.getpid()}"
        dsn, hold = _start(home, folder)
        current.write_text(f"{home}\n{dsn}\n")
        return dsn, hold


def _start(home: Path, folder: Path) -> tuple[str, int]:
    home.mkdir(mode=0o711)
    os.mkfifo(home / "users")
    # Also for reading, so that it opens at once: its reader does not run yet.
    hold = os.open(home / "users", os.O_RDWR)
    server = subprocess.Popen(
        [sys.executable, __file__, home, folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert server.stdout is not None
    with server.stdout as answer:
        dsn = answer.readline().strip()
    if not dsn:
        raise RuntimeError(f"the server for tests did not start: {server.wait()}")
    return dsn, hold


def serve(home: Path, folder: Path) -> None:
    """Run the server until nobody holds the FIFO any more."""
    server = EmbeddedPostgres(home, folder, settings=FAST)
    server.prepare()

    def wait_for_users(heart: Heart) -> None:
        with (home / "users").open("rb") as users:
            users.read()

    def on_event(event: Event) -> None:
        if isinstance(event, Died) and event.name == "users":
            supervisor.stop("nobody uses it")

    users = Child("users", wait_for_users, restart=Restart.NEVER)
    with Supervisor([server.child(), users], on_event=on_event) as supervisor:
        server.wait_until_ready(pause=supervisor.poll)
        print(server.dsn("postgres"), flush=True)
        while supervisor.poll():
            pass
    rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
