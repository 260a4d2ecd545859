"""piw-initdb, piw-master, piw-slave and piw-add on their own, as on hosts of their own."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.postgres_fixture import as_daemon, cursor
from tests.running_farm import BIN, PATIENCE

ROOT = Path(__file__).parents[2]
UNWANTED = ("sqlalchemy", "psycopg2", "chameleon", "jinja2", "yoyo", "textual", "rich", "werkzeug")


@contextmanager
def running(*words, **environment):
    """A program, ended with SIGTERM; it must end well."""
    process = subprocess.Popen(
        words,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            output = process.communicate(timeout=60)[0]
        finally:
            process.kill()
        print(output)
    assert process.returncode == 0, output


def command(*words):
    answer = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture
def notices(tmp_path):
    """What systemd would hear."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE)
        yield listener


@pytest.fixture
def initialized(database):
    """The daemon's address of a database that was made ready with piw-initdb."""
    role = f"daemon_{os.getpid()}_{time.monotonic_ns()}"
    command(BIN / "piw-initdb", "-d", database, "-u", role, "-y")
    with cursor(database) as statements:
        statements.execute(f"ALTER ROLE {role} PASSWORD 'secret'")
    url = make_url(database).set(username=role, password="secret")
    return url.render_as_string(hide_password=False)


@pytest.fixture
def configuration(tmp_path, pypi):
    """The one file of a farm's operator, but for the database."""
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    file = tmp_path / "piwheels.conf"
    file.write_text(
        f"""\
[DEFAULT]
slave-queue = ipc://{run}/s
file-queue = ipc://{run}/f
import-queue = ipc://{run}/i
status-queue = ipc://{run}/t

[master]
output-path = {tmp_path / "www"}
pypi-simple = {pypi.simple_url}

[slave]
label = pi4
dir = {tmp_path / "slave"}
"""
    )
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """This project as it is installed elsewhere: built from its sdist, not among its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    command(BIN / "uv", "build", "--quiet", "--out-dir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def wait_for(path):
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.1)


def clean_environment(folder, wheel, extra):
    """A virtual environment with nothing but the project and this extra."""
    command(BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder)
    command(BIN / "uv", "pip", "install", "--quiet", "--python", folder, f"{wheel}[{extra}]")
    return folder / "bin"


def test_a_slave_with_only_its_own_extra_builds_for_a_master_that_tells_systemd_it_is_ready(
    tmp_path, wheel, configuration, initialized, notices
):
    bin_of_slave = clean_environment(tmp_path / "slave-environment", wheel, "slave")
    present = command(
        bin_of_slave / "python", "-c",
        "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])",
        *UNWANTED,
    )  # fmt: skip
    assert present.strip() == "[]"
    address = str(tmp_path / "notify")
    master = (BIN / "piw-master", "-c", configuration, "-d", initialized)
    with running(*master, NOTIFY_SOCKET=address):
        while "READY=1" not in notices.recv(1000).decode():
            pass
        with running(bin_of_slave / "piw-slave", "-c", configuration):
            command(BIN / "piw-add", "-c", configuration, "tiny-pure")
            wait_for(tmp_path / "www" / "simple" / "tiny-pure" / "index.html")


def test_a_master_with_only_its_own_extra_writes_pages(
    tmp_path, wheel, configuration, farm_database
):
    bin_of_master = clean_environment(tmp_path / "master-environment", wheel, "master")
    plan = command(bin_of_master / "piw-initdb", "-d", farm_database, "-u", "another", "--dry-run")
    assert "another" in plan, "the schema is in the wheel"
    dsn = as_daemon(farm_database)
    with running(bin_of_master / "piw-master", "-c", configuration, "-d", dsn):
        wait_for(tmp_path / "www" / "404.html")
        assert "will be built" in command(
            bin_of_master / "piw-add", "-c", configuration, "tiny-pure"
        )
        wait_for(tmp_path / "www" / "project" / "tiny-pure" / "index.html")


def test_a_master_refuses_a_database_without_its_schema(tmp_path, database):
    answer = subprocess.run(
        [BIN / "piw-master", "-d", database, "-o", tmp_path / "www"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert answer.returncode != 0
    assert "run piw-initdb" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_two_slaves_cannot_share_a_directory(tmp_path, configuration):
    with running(BIN / "piw-slave", "-c", configuration):
        wait_for(tmp_path / "slave" / "spool")
        answer = subprocess.run(
            [BIN / "piw-slave", "-c", configuration],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert answer.returncode == 1
    assert "another slave uses" in answer.stderr


def test_piw_add_says_what_to_do_where_no_master_runs(configuration):
    answer = subprocess.run(
        [BIN / "piw-add", "-c", configuration, "six"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert answer.returncode == 1
    assert "is piw-master running" in answer.stderr
