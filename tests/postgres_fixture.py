"""A PostgreSQL for tests: one server per test run, one fresh database per test.

database: empty, to be made ready by the test itself. farm_database: as piw-initdb leaves it,
which costs a tenth, being a copy of one that all workers share; see as_daemon for its role.

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

from piwheels.database.schema import initialize
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

DAEMON, PASSWORD = "farm_daemon", "secret"

_SOURCES = {"embedded": bundled, "debian": installed}
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the run's server, as its superuser, for SQLAlchemy."""
    flavour = os.environ.get("PIW_TEST_POSTGRES", "embedded")
    dsn, hold = _join(run_folder(tmp_path_factory), binaries(flavour))
    yield dsn
    os.close(hold)


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The address of an empty database, as its owner, for SQLAlchemy."""
    with _copy_of("template0", postgres) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def farm_template(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database that piw-initdb's work was done in; nobody can connect to it."""
    with taking_turns(run_folder(tmp_path_factory)), cursor(postgres) as statements:
        statements.execute("SELECT 1 FROM pg_database WHERE datname = 'farm_template'")
        if not statements.fetchone():
            statements.execute("DROP DATABASE IF EXISTS farm_new")
            statements.execute("CREATE DATABASE farm_new TEMPLATE template0")
            initialize(_address(postgres, "farm_new"), DAEMON, PASSWORD)
            statements.execute("ALTER DATABASE farm_new ALLOW_CONNECTIONS false")
            statements.execute("ALTER DATABASE farm_new RENAME TO farm_template")
    return "farm_template"


@pytest.fixture
def farm_database(postgres: str, farm_template: str) -> Iterator[str]:
    """The address of a database with the farm's schema and role, as its owner, for SQLAlchemy."""
    with _copy_of(farm_template, postgres) as dsn:
        yield dsn


def as_daemon(dsn: str) -> str:
    """The address of a farm_database as the farm's daemons have it."""
    url = make_url(dsn).set(username=DAEMON, password=PASSWORD)
    return url.render_as_string(hide_password=False)


def run_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all workers of this run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextmanager
def taking_turns(folder: Path) -> Iterator[None]:
    """One worker of the run at a time."""
    with (folder / "turns.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepared_postgres(folder: Path, flavour: str = "embedded") -> Path:
    """The data of an EmbeddedPostgres that was prepared but never ran, to be copied; made once.

    folder: of the run.
    """
    data = folder / f"prepared-{flavour}"
    with taking_turns(folder):
        if not data.exists():
            new = folder / f"new-{flavour}"
            server = EmbeddedPostgres(new, binaries(flavour))
            server.prepare()
            server.close()
            new.rename(data)
    return data


def copy_data(data: Path, destination: Path) -> None:
    """Copy a directory to a new one, each file with its owner."""
    subprocess.run(["cp", "-a", data, destination], check=True)


def binaries(flavour: str) -> Path:
    """The folder of the newest PostgreSQL of this flavour."""
    found = [found for place in _SOURCES[flavour]() if (found := Binaries.at(place))]
    if not found:
        pytest.skip(f"no PostgreSQL binaries ({flavour})")
    return max(found, key=lambda candidate: candidate.major).folder


@contextmanager
def _copy_of(template: str, postgres: str) -> Iterator[str]:
    """The address of a new database; it is dropped in the end."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with cursor(postgres) as statements:
        # The default since 15 writes every page to the log, too; the only way before has no name.
        strategy = "STRATEGY file_copy" if statements.connection.server_version >= 150_000 else ""
        statements.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
    yield _address(postgres, name)
    with cursor(postgres) as statements:
        statements.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _address(postgres: str, database: str) -> str:
    return make_url(postgres).set(database=database).render_as_string(hide_password=False)


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
    with taking_turns(base):
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
