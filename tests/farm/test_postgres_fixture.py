import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SUITE = """
import os, signal
import pytest
from psycopg2.errors import InsufficientPrivilege
from tests.postgres_fixture import (
    as_daemon, cursor, database, farm_database, farm_template, postgres
)

@pytest.mark.parametrize("number", range(4))
def test_the_database_is_empty_and_ours(database, number):
    with cursor(database) as statements:
        statements.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert statements.fetchone() == (0,)
        statements.execute("CREATE TABLE mine ()")

@pytest.mark.parametrize("number", range(2))
def test_a_farm_database_has_the_schema_and_its_role_and_nothing_of_other_tests(
    farm_database, number
):
    with cursor(as_daemon(farm_database)) as statements:
        statements.execute("SELECT count(*) FROM packages")
        assert statements.fetchone() == (0,)
        statements.execute("INSERT INTO packages (name, display_name) VALUES ('six', 'six')")
        with pytest.raises(InsufficientPrivilege):
            statements.execute("CREATE TABLE mine ()")

def test_the_server_is_one_for_all_workers(postgres):
    with open(os.environ["ADDRESSES"], "a") as file:
        print(postgres, file=file)

test_the_server_is_one_for_all_workers_as_the_next_sees_it = (
    test_the_server_is_one_for_all_workers
)

def test_a_worker_may_be_killed(postgres):
    if "KILL" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def run_suite(folder: Path, *options: str, **environment: str) -> str:
    """Run the suite, return its last line."""
    (folder / "test_suite.py").write_text(SUITE)
    where = ["--rootdir", folder, "--basetemp", folder / "base", folder / "test_suite.py"]
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *where],
        cwd=ROOT,
        env={**environment, "PATH": "/usr/bin:/bin", "ADDRESSES": str(folder / "addresses")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return answer.stdout.strip().rpartition("\n")[2]


def is_ended(folder: Path) -> bool:
    """Whether every server of the run has removed its data, its last act, or does in a while."""
    deadline = time.monotonic() + 60
    while list(folder.glob("base/postgres-*")):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_all_tests_of_a_run_share_a_server_that_ends_with_it(tmp_path, options):
    assert run_suite(tmp_path, *options).startswith("9 passed")
    assert len(set((tmp_path / "addresses").read_text().splitlines())) == 1
    assert is_ended(tmp_path)


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_the_server_ends_although_tests_are_killed(tmp_path, options):
    run_suite(tmp_path, *options, KILL="yes")
    assert (tmp_path / "base" / "postgres.current").exists()
    assert is_ended(tmp_path)
