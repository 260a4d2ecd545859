import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from piwheels.farm.postgres import EmbeddedPostgres, PostgresInUse
from piwheels.farm.postgres_account import NoAccount, choose_account
from piwheels.farm.postgres_binaries import Binaries, NoPostgres, choose
from piwheels.farm.postgres_leftovers import end_leftovers
from piwheels.model.errors import Unavailable
from piwheels.processes.descendants import kill_tree
from piwheels.processes.privileges import run_as
from tests.postgres_fixture import (
    FAST,
    binaries,
    copy_data,
    cursor,
    prepared_postgres,
    run_folder,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another")

# A farm that is nothing but its database. Says the database's address, then runs until told.
FARM = """
import sys
from pathlib import Path
from piwheels.farm.postgres import EmbeddedPostgres
from piwheels.model.errors import PiwheelsError
from piwheels.processes.supervisor import Supervisor
server = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2]))
try:
    server.prepare()
except PiwheelsError as error:
    sys.exit(str(error))
with Supervisor([server.child()]) as supervisor:
    server.wait_until_ready(pause=supervisor.poll)
    print(server.dsn("postgres"), flush=True)
    while supervisor.poll():
        pass
"""


class Farm:
    """A process that runs a database, as seen by its operator."""

    def __init__(self, data: Path, folder: Path, before: tuple[str, ...] = ()) -> None:
        self.data = data
        python = sys.executable
        paths = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        if before:  # another user may be unable to reach the Python that root runs
            python = "/usr/bin/python3"
        self.process = subprocess.Popen(
            [*before, python, "-c", FARM, data, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=paths,
            cwd="/",
        )
        assert self.process.stdout is not None
        self.dsn = self.process.stdout.readline().strip()

    def ask(self, statement: str) -> list[tuple]:
        with cursor(self.dsn) as answers:
            answers.execute(statement)
            return answers.fetchall() if answers.description else []

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def kill(self) -> int:
        self.process.kill()
        return self.end()

    def end(self) -> int:
        self.error = self.process.communicate(timeout=60)[1]
        return self.process.returncode


@pytest.fixture(scope="module", params=["embedded", "debian"])
def flavour(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(flavour: str) -> Path:
    return binaries(flavour)


@pytest.fixture
def data(flavour: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a cluster was made already, but never ran."""
    copy_data(prepared_postgres(run_folder(tmp_path_factory), flavour), tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def running(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A farm with a new cluster; tests only look at it."""
    farm = Farm(tmp_path_factory.mktemp("running") / "data", folder)
    yield farm
    farm.stop()


@pytest.fixture
def farm() -> Iterator[Callable[..., Farm]]:
    farms: list[Farm] = []

    def started(*words, **options) -> Farm:
        farms.append(Farm(*words, **options))
        return farms[-1]

    yield started
    for each in farms:
        if each.process.poll() is None:
            each.stop()


def server_pid(data: Path) -> int:
    return int((data / "cluster" / "postmaster.pid").read_text().split()[0])


def test_a_new_data_directory_becomes_a_database_that_lasts(farm, folder, tmp_path):
    first = farm(tmp_path / "data", folder)
    first.ask("CREATE TABLE kept AS SELECT 42 AS answer")
    assert first.stop() == 0
    second = farm(tmp_path / "data", folder)
    assert second.ask("SELECT answer FROM kept") == [(42,)]


def test_what_is_committed_survives_a_power_cut(running):
    durable = ("fsync", "synchronous_commit", "full_page_writes")
    assert [running.ask(f"SHOW {name}") for name in durable] == [[("on",)]] * 3


def test_a_stop_is_a_clean_shutdown_even_while_clients_are_connected(farm, folder, data):
    it = farm(data, folder)
    with closing(psycopg2.connect(it.dsn.replace("+psycopg2", ""))):
        assert it.stop() == 0
    answer = subprocess.run(
        [folder / "pg_controldata", data / "cluster"],
        env={"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "shut down\n" in answer.stdout
    assert not (data / "cluster" / "postmaster.pid").exists()


def test_after_a_kill_of_the_farm_the_next_one_goes_on(farm, folder, data):
    first = farm(data, folder)
    first.ask("CREATE TABLE kept AS SELECT 42 AS answer")
    assert first.kill() == -signal.SIGKILL
    second = farm(data, folder)
    assert second.ask("SELECT answer FROM kept") == [(42,)]


def test_a_kill_of_everything_leaves_no_obstacle(farm, folder, data):
    first = farm(data, folder)
    first.ask("CREATE TABLE kept AS SELECT 42 AS answer")
    kill_tree(first.process.pid)
    first.end()
    assert (data / "cluster" / "postmaster.pid").exists()
    second = farm(data, folder)
    assert second.ask("SELECT answer FROM kept") == [(42,)]


def test_a_pid_file_that_names_a_stranger_is_no_obstacle(farm, folder, data):
    first = farm(data, folder)
    pid_file = data / "cluster" / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines()
    kill_tree(first.process.pid)
    first.end()
    owner = pid_file.stat()
    other_user = run_as(owner.st_uid, owner.st_gid) if os.geteuid() == 0 else []
    with subprocess.Popen([*other_user, "sleep", "1000"]) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *rest]) + "\n")
        second = farm(data, folder)
        assert second.ask("SELECT 1") == [(1,)]
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_that_is_killed_comes_back(farm, folder, data):
    it = farm(data, folder)
    earlier = server_pid(data)
    os.kill(earlier, signal.SIGKILL)
    server = EmbeddedPostgres(data, folder)
    server.wait_until_ready()
    assert it.ask("SELECT 1") == [(1,)]
    assert server_pid(data) != earlier


def test_a_second_farm_on_the_same_data_is_told_so(farm, folder, running):
    second = farm(running.data, folder)
    assert second.end() == 1
    assert "another farm uses" in second.error
    assert "--data" in second.error
    assert running.ask("SELECT 1") == [(1,)]


def test_a_crash_while_the_cluster_is_made_is_made_good(farm, folder, tmp_path):
    unfinished = tmp_path / "data" / "cluster.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("16\n")
    assert farm(tmp_path / "data", folder).ask("SELECT 1") == [(1,)]
    assert not unfinished.exists()


@pytest.mark.parametrize("password", ["", "wrong"])
def test_nobody_gets_in_without_the_password(running, password):
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(
            host=running.data / "socket",
            user="postgres",
            password=password,
            dbname="postgres",
            passfile="/dev/null",
        )


def test_nothing_in_the_data_directory_is_open_to_others(farm, folder, tmp_path):
    data = tmp_path / "data"
    it = farm(data, folder)
    it.stop()
    closed = [data / "cluster", data / "passwords", data / "socket", data / "lock"]
    closed += [data / "postgresql.log", data / "passwords" / "postgres"]
    assert [path.name for path in closed if path.stat().st_mode & 0o077] == []
    assert not (data / "initial-password").exists()


def test_other_roles_and_databases_have_addresses_of_their_own(running, folder):
    server = EmbeddedPostgres(running.data, folder)
    for _ in range(2):  # doing it again is harmless
        server.ensure_role("the builder's")
        server.ensure_database("piw/heels", owner="the builder's")
    with cursor(server.dsn("piw/heels", "the builder's")) as answers:
        answers.execute(
            "SELECT current_database(), current_user, rolsuper FROM pg_roles"
            " WHERE rolname = current_user"
        )
        assert answers.fetchone() == ("piw/heels", "the builder's", False)


def test_where_the_path_is_too_long_for_a_socket_a_port_is_used(farm, folder, tmp_path):
    data = tmp_path / ("long" * 20) / ("path" * 20)
    it = farm(data, folder)
    assert "host=127.0.0.1" in it.dsn
    assert it.ask("SELECT 1") == [(1,)]


def test_a_cluster_of_another_major_version_is_refused_with_the_next_step(folder, tmp_path):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "PG_VERSION").write_text("12\n")
    with pytest.raises(NoPostgres, match=r"made by PostgreSQL 12.*install postgresql-12"):
        EmbeddedPostgres(tmp_path, folder).prepare()


def test_a_cluster_is_run_by_the_version_that_made_it():
    for flavour in ("embedded", "debian"):
        found = Binaries.at(binaries(flavour))
        assert choose(None, found.major).major == found.major


def test_a_new_cluster_is_made_by_the_newest_bundled_version():
    assert choose(None, None).folder == binaries("embedded")


def test_a_folder_without_postgresql_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(NoPostgres, match=r"piwheels\[farm\].*apt install postgresql"):
        EmbeddedPostgres(tmp_path / "data", tmp_path).prepare()


def test_binaries_that_do_not_run_on_this_machine_are_passed_over(tmp_path):
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_bytes(b"\x7fELF of another machine")
        (tmp_path / name).chmod(0o755)
    assert Binaries.at(tmp_path) is None


def test_a_server_that_does_not_come_is_reported_with_its_last_words(folder, tmp_path):
    server = EmbeddedPostgres(tmp_path, folder)
    server.log.write_text("FATAL:  the disk is full\n\n")
    with pytest.raises(Unavailable, match="the disk is full"):
        server.wait_until_ready(timeout=0.0)


def test_a_lock_that_was_closed_can_be_taken_again(folder, tmp_path):
    first = EmbeddedPostgres(tmp_path / "data", folder, settings=FAST)
    first.prepare()
    first.prepare()  # doing it again is harmless
    second = EmbeddedPostgres(tmp_path / "data", folder, settings=FAST)
    with pytest.raises(PostgresInUse):
        second.prepare()
    first.close()
    second.prepare()
    second.close()


def test_a_directory_where_nothing_runs_has_no_leftovers(tmp_path):
    end_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@as_root
def test_as_root_the_server_runs_as_another_with_no_more_than_it_needs(running):
    status = Path(f"/proc/{server_pid(running.data)}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapEff"], 16).bit_count() <= 1
    assert fields["NoNewPrivs"] == "1"


@as_root
def test_as_root_data_and_binaries_may_lie_where_only_root_can_go(farm, tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    original = binaries("embedded").parent.parent
    copy = shutil.copytree(original, private / original.name)
    libraries = original.with_name(original.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, private / libraries.name)
    it = farm(private / "data", copy / binaries("embedded").relative_to(original))
    assert it.ask("SELECT 1") == [(1,)]
    assert it.stop() == 0


@as_root
def test_root_is_told_what_to_do_where_no_account_can_run_the_binaries(tmp_path):
    with pytest.raises(NoAccount, match="--data /var/lib/piwheels"):
        choose_account(tmp_path / "cluster", tmp_path / "no binaries here")


@as_root
def test_an_ordinary_user_needs_nothing_but_a_directory(farm, folder, tmp_path_factory):
    home = Path(tmp_path_factory.getbasetemp().anchor, "tmp", f"piwheels-test-{os.getpid()}")
    home.mkdir(mode=0o700)
    nobody = 65534
    os.chown(home, nobody, nobody)
    try:
        it = farm(home / "data", folder, before=tuple(run_as(nobody, nobody)))
        assert it.ask("SELECT 1") == [(1,)]
        assert (home / "data" / "cluster").stat().st_uid == nobody
        assert it.stop() == 0
        it = farm(home / "data", folder, before=tuple(run_as(nobody, nobody)))
        assert it.ask("SELECT 1") == [(1,)]
        assert it.kill() == -signal.SIGKILL
        end_leftovers(home / "data" / "cluster")
    finally:
        shutil.rmtree(home)
