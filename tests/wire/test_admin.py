"""piw-add, the admin service, PyPI and the database, each as it is."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url

from piwheels.cli.add import read_requirement
from piwheels.cli.asking import ask_at as ask
from piwheels.cli.options import BadUsage
from piwheels.database.connection import connect
from piwheels.database.schema import initialize
from piwheels.master.admin import Admin
from piwheels.model.errors import Unavailable
from piwheels.protocol.admin import FROM_TOOL, Add, Added, Failed, Rules
from piwheels.pypi import PyPI
from piwheels.transport import Talker
from tests.postgres_fixture import cursor
from tests.pypi_server import small_pypi

PIW_ADD = "from piwheels.cli.add import main; raise SystemExit(main())"
PATIENCE = 30.0  # seconds; an answer that is late fails the test, one in time ends the wait


@contextmanager
def served(dsn: str, simple_url: str, address: str = "tcp://127.0.0.1:*") -> Iterator[Admin]:
    stop, engine = threading.Event(), connect(dsn)
    with PyPI(simple_url, pause=0.0) as client:
        admin = Admin(engine, client, address)
        thread = threading.Thread(target=admin.serve, args=(stop.is_set, lambda: None))
        thread.start()
        try:
            yield admin
        finally:
            stop.set()
            thread.join()
            engine.dispose()


@pytest.fixture
def pypi(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    with small_pypi(folder) as index:
        yield index


@pytest.fixture
def admin(database, pypi):
    initialize(database, "admin_test")
    with served(database, pypi.simple_url) as admin:
        yield admin


@pytest.fixture
def tell(admin):
    return lambda *request, **details: ask(admin.address, Add(*request, **details), PATIENCE)


@pytest.fixture
def rows(database):
    def rows(statement):
        with cursor(database) as statements:
            statements.execute(statement)
            return statements.fetchall()

    return rows


@pytest.fixture
def target(admin, rows):
    """An active target, so that something can be waiting."""
    rows(
        "WITH tags AS (INSERT INTO tag_sets (tags) VALUES ('{cp311-cp311-linux_armv7l}')"
        " RETURNING tag_set_id)"
        " INSERT INTO targets (name, label, python, rank, active, tag_set_id)"
        " SELECT 'cp311-linux_armv7l', 'CPython 3.11', '3.11.2', 1, true, tag_set_id FROM tags"
        " RETURNING 1"
    )


def piw_add(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", PIW_ADD, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


WAITING = (
    "SELECT name, version, queue.lane FROM queue"
    " JOIN versions USING (version_id) JOIN packages USING (package_id)"
)
WANTED = "SELECT version FROM versions WHERE lane = 0"


def test_what_is_added_is_waiting(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    assert tell("six") == Added("six", "1.0", is_news=True)
    assert rows(WAITING) == [("six", "1.0", 0)]


def test_a_page_is_asked_for(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six")
    assert rows("SELECT name FROM page_jobs JOIN packages USING (package_id)") == [("six",)]


def test_adding_again_is_no_news(pypi, target, tell):
    pypi.put("six-1.0.tar.gz")
    tell("six")
    assert tell("six") == Added("six", "1.0", is_news=False)


def test_a_new_version_on_pypi_is_seen_when_it_is_asked_for(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six")
    pypi.put("six-1.1.tar.gz")
    assert tell("six") == Added("six", "1.1", is_news=True)
    assert rows(f"{WANTED} ORDER BY version") == [("1.0",), ("1.1",)]


def test_all_versions_are_known_and_only_one_is_wanted(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    pypi.put("six-1.1.tar.gz")
    tell("six", "==1.0")
    assert rows("SELECT count(*) FROM versions") == [(2,)]
    assert rows(WANTED) == [("1.0",)]


def test_a_version_that_no_target_can_run_is_passed_over_with_a_word(pypi, target, tell):
    pypi.put("six-2.0.tar.gz", requires_python=">=3.12")
    pypi.put("six-1.0.tar.gz")
    added = tell("six")
    assert added.version == "1.0"
    assert added.warnings == ("2.0 is newer, but no target has a Python >=3.12",)


def test_a_version_with_wheels_only_is_passed_over_with_a_word(pypi, target, tell):
    pypi.put("six-2.0-py3-none-any.whl")
    pypi.put("six-1.0.tar.gz")
    assert tell("six").warnings == ("2.0 is newer, but PyPI has only wheels of it",)


def test_without_a_target_there_is_a_word(pypi, tell):
    pypi.put("six-1.0.tar.gz")
    assert tell("six").warnings == ("no target is active: it will wait for the first slave",)


def test_a_package_that_is_not_on_pypi_is_not_added(tell, rows):
    answer = tell("seven")
    assert (type(answer), answer.hint) == (Failed, "check the spelling")
    assert rows("SELECT count(*) FROM packages") == [(0,)]


def test_a_version_that_is_not_on_pypi_changes_nothing(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    answer = tell("six", "==2.0", description="two times three")
    assert (type(answer), answer.hint) == (Failed, "try one of 1.0")
    assert rows("SELECT count(*) FROM packages") == [(0,)]


def test_a_package_with_wheels_only_is_not_added(pypi, tell):
    pypi.put("six-1.0-py3-none-any.whl")
    assert tell("six").hint == "use PyPI's own"


def test_a_specifier_that_is_none_is_refused(pypi, tell):
    pypi.put("six-1.0.tar.gz")
    assert "not a version specifier" in tell("six", "1.0").reason


def test_a_dry_run_answers_the_same_and_changes_nothing(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    assert tell("six", is_dry_run=True) == Added("six", "1.0", is_news=True)
    assert rows("SELECT count(*) FROM packages") == [(0,)]
    assert tell("six") == Added("six", "1.0", is_news=True)


def test_a_skipped_package_waits_no_more_and_does_again_when_unskipped(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six")
    assert tell("six", skip="too big") == Added("six", "", is_news=True)
    assert rows(WAITING) == []
    assert tell("six", skip="") == Added("six", "1.0", is_news=True)
    assert rows(WAITING) == [("six", "1.0", 0)]


def test_a_skipped_version_waits_no_more_and_does_again_when_unskipped(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six")
    assert tell("six", "==1.0", skip="too big") == Added("six", "1.0", is_news=True)
    assert rows(WAITING) == []
    assert tell("six", "==1.0", skip="") == Added("six", "1.0", is_news=True)
    assert rows(WAITING) == [("six", "1.0", 0)]


def test_adding_what_is_skipped_says_how_to_unskip_it(pypi, target, tell):
    pypi.put("six-1.0.tar.gz")
    tell("six", skip="too big")
    (warning,) = tell("six").warnings
    assert "too big" in warning
    assert warning.endswith("say piw-add six --unskip")


def test_a_package_that_left_pypi_can_still_be_skipped(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six")
    pypi.take_away("six-1.0.tar.gz")
    assert tell("six", skip="gone") == Added("six", "", is_news=True)
    assert rows("SELECT skip FROM packages") == [("gone",)]


def test_a_description_and_aliases_are_kept(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six", description="two times three", aliases=("VI",))
    assert rows("SELECT summary FROM packages") == [("two times three",)]
    assert rows("SELECT name FROM package_names WHERE name = 'VI'") == [("VI",)]


def test_an_alias_of_another_package_changes_nothing(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    pypi.put("seven-1.0.tar.gz")
    tell("six")
    assert tell("seven", aliases=("six",)).hint == "choose another"
    assert rows("SELECT name FROM packages") == [("six",)]


def test_an_index_in_trouble_is_said_to_be(pypi, tell):
    pypi.statuses["six"] = 500
    assert tell("six").hint == "try again later"


def test_many_who_add_the_same_at_once_are_all_answered(pypi, target, admin, rows):
    pypi.put("six-1.0.tar.gz")
    answers = []

    def add():
        answers.append(ask(admin.address, Add("six"), PATIENCE))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {type(answer) for answer in answers} == {Added}
    assert sum(answer.is_news for answer in answers) == 1
    assert rows(WAITING) == [("six", "1.0", 0)]


@pytest.mark.parametrize("frame", [b"", b"\xff", b"\xa1dtypecAdd", b"\x80" * 1000, b"\xa0"])
def test_a_hostile_frame_is_dropped_and_the_next_tool_is_answered(pypi, admin, tell, frame):
    pypi.put("six-1.0.tar.gz")
    with Talker(admin.address) as talker:
        talker.say(frame)
        talker.say(FROM_TOOL.encode(Add("six")))
        assert isinstance(tell("six"), Added)


def test_a_database_that_is_away_is_said_to_be_and_is_found_when_it_is_back(
    pypi, database, postgres
):
    initialize(database, "admin_test")
    pypi.put("six-1.0.tar.gz")
    name = make_url(database).database
    with served(database, pypi.simple_url) as admin, cursor(postgres) as statements:
        first = ask(admin.address, Add("six"), PATIENCE)
        statements.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        statements.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        away = ask(admin.address, Add("six"), PATIENCE)
        statements.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        back = ask(admin.address, Add("six"), PATIENCE)
    assert isinstance(first, Added)
    assert away == Failed("the database is away", "try again in a minute")
    assert isinstance(back, Added)


def test_piw_add_says_what_it_did(pypi, target, admin):
    pypi.put("six-1.0.tar.gz")
    done = piw_add("six", PIW_IMPORT_QUEUE=admin.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "six 1.0 will be built\n", "")
    again = piw_add("six==1.0", PIW_IMPORT_QUEUE=admin.address)
    assert (again.returncode, again.stdout) == (0, "six 1.0: nothing to change\n")


def test_piw_add_answers_in_json(pypi, target, admin):
    pypi.put("six-1.0.tar.gz")
    done = piw_add("Six", "1.0", "--json", PIW_IMPORT_QUEUE=admin.address)
    answer = {"package": "six", "version": "1.0", "is_news": True, "warnings": []}
    assert json.loads(done.stdout) == answer


def test_piw_add_fails_with_one_line_and_the_next_step(admin):
    done = piw_add("seven", PIW_IMPORT_QUEUE=admin.address)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.endswith(": check the spelling\n")


def test_piw_add_skips_only_if_it_is_sure(pypi, admin, rows):
    pypi.put("six-1.0.tar.gz")
    doubtful = piw_add("six", "--skip", "too big", PIW_IMPORT_QUEUE=admin.address)
    assert (doubtful.returncode, "say --yes" in doubtful.stderr) == (2, True)
    sure = piw_add("six", "--skip", "too big", "--yes", PIW_IMPORT_QUEUE=admin.address)
    assert sure.stdout == "six will not be built: too big\n"
    assert rows("SELECT skip FROM packages") == [("too big",)]


def test_without_a_master_the_question_is_whether_it_runs(tmp_path):
    with pytest.raises(Unavailable, match="is piw-master running"):
        ask(f"ipc://{tmp_path}/import-queue", Add("six"), PATIENCE)
    with pytest.raises(Unavailable, match=r"no answer on .* is piw-master running"):
        ask("tcp://127.0.0.1:1", Add("six"), seconds=0.01)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("Six",), ("six", "")),
        (("six", "1.16.0"), ("six", "==1.16.0")),
        (("six", ">=1.10"), ("six", ">=1.10")),
        (("six==1.16.0",), ("six", "==1.16.0")),
        (("six >=1.10",), ("six", ">=1.10")),
        (("zope.interface", "5"), ("zope-interface", "==5")),
    ],
)
def test_a_package_and_its_version_are_read_as_people_write_them(words, parts):
    assert read_requirement(*words) == parts


@pytest.mark.parametrize(
    "words",
    [("six==1", "2"), ("six=1",), ("six[extra]",), ("six; python_version>'3'",), ("six", "new"),
     ("six @ https://files.example/six.zip",)],
)  # fmt: skip
def test_what_cannot_be_added_is_refused_in_words(words):
    with pytest.raises(BadUsage):
        read_requirement(*words)


# What is followed


LANES = "SELECT version, lane FROM versions ORDER BY 1"
FOLLOW = "SELECT follow, policy FROM packages"


def test_a_package_that_is_added_is_followed_and_its_versions_wanted(pypi, target, tell, rows):
    for version in ("1.0", "1.1", "1.2"):
        pypi.put(f"six-{version}.tar.gz")
    assert tell("six").version == "1.2"
    assert rows(FOLLOW) == [("listed", "all")]
    assert rows(LANES) == [("1.0", 2), ("1.1", 2), ("1.2", 0)]
    assert len(rows(WAITING)) == 3


def test_a_version_that_is_pinned_is_all_that_is_built(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    pypi.put("six-1.1.tar.gz")
    tell("six", "==1.0")
    assert rows(FOLLOW) == [("", "all")]
    assert rows(WAITING) == [("six", "1.0", 0)]


def test_what_is_added_once_is_not_followed(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    pypi.put("six-1.1.tar.gz")
    assert tell("six", is_once=True) == Added("six", "1.1", is_news=True)
    assert rows(FOLLOW) == [("", "all")]
    assert rows(WAITING) == [("six", "1.1", 0)]
    assert tell("six").is_news
    assert rows(LANES) == [("1.0", 2), ("1.1", 0)]


def test_what_is_followed_with_all_of_pypi_is_built_as_listed_once_it_is_added(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six", is_once=True)
    rows("UPDATE packages SET follow = 'all', policy = 'missing' RETURNING 1")
    tell("six")
    assert rows(FOLLOW) == [("listed", "all")]


# Rules of a package


def test_pre_releases_are_built_last_or_never_as_the_package_wants(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    pypi.put("six-2.0rc1.tar.gz")
    tell("six")
    rows("UPDATE versions SET lane = 2 WHERE version = '2.0rc1' RETURNING 1")
    assert tell("six", rules=Rules(prereleases="last")).is_news
    assert rows(f"{WAITING} ORDER BY 2") == [("six", "1.0", 0), ("six", "2.0rc1", 3)]
    assert tell("six", rules=Rules(prereleases="never")).is_news
    assert rows(WAITING) == [("six", "1.0", 0)]
    assert not tell("six", rules=Rules(prereleases="never")).is_news


def test_only_as_many_versions_are_kept_as_the_package_wants(pypi, target, tell, rows):
    for day, version in enumerate(("1.0", "2.0", "3.0"), 1):
        pypi.put(f"six-{version}.tar.gz", upload_time=f"2024-12-0{day}T00:00:00Z")
    tell("six", "==1.0")
    rows("UPDATE versions SET lane = 2 RETURNING 1")
    assert tell("six", "==3.0", rules=Rules(keep=2)).is_news
    assert rows(f"{WAITING} ORDER BY 2") == [("six", "2.0", 2), ("six", "3.0", 0)]
    assert tell("six", "==3.0", rules=Rules(keep=0)).is_news
    assert rows("SELECT keep FROM packages") == [(None,)]
    assert len(rows(WAITING)) == 3


def test_what_pypi_has_a_wheel_for_is_not_built_under_the_policy_missing(pypi, target, tell, rows):
    pypi.put("six-1.0.tar.gz")
    pypi.put("six-1.0-cp311-cp311-linux_armv7l.whl")
    tell("six")
    assert rows(WAITING) == [("six", "1.0", 0)]
    assert tell("six", rules=Rules(policy="missing")).is_news
    assert rows(WAITING) == []
    tell("six", rules=Rules(policy="all"))
    assert rows(WAITING) == [("six", "1.0", 0)]


def test_a_rule_that_is_not_given_stays_as_it_is(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six", rules=Rules("never", 5, "missing", network=True))
    assert not tell("six").is_news
    assert rows("SELECT prereleases, keep, policy, network FROM packages") == [
        ("never", 5, "missing", True)
    ]


def test_a_dry_run_changes_no_rule(pypi, tell, rows):
    pypi.put("six-1.0.tar.gz")
    tell("six")
    assert tell("six", rules=Rules(keep=3), is_dry_run=True).is_news
    assert rows("SELECT keep FROM packages") == [(None,)]


def test_piw_add_takes_rules(pypi, admin, rows):
    pypi.put("six-1.0.tar.gz")
    words = ("--keep", "3", "--prereleases", "last", "--policy", "missing", "--network")
    done = piw_add("six", *words, PIW_IMPORT_QUEUE=admin.address)
    assert (done.returncode, done.stdout) == (0, "six 1.0 will be built\n")
    known = "SELECT prereleases, keep, policy, network FROM packages"
    assert rows(known) == [("last", 3, "missing", True)]
    piw_add("six", "--keep", "all", "--no-network", PIW_IMPORT_QUEUE=admin.address)
    assert rows(known) == [("last", None, "missing", False)]


@pytest.mark.parametrize("keep", ["0", "-1", "none", "1.5"])
def test_piw_add_keeps_a_number_of_versions_or_all(keep):
    assert piw_add("six", f"--keep={keep}").returncode == 2


def test_piw_add_that_fails_answers_in_json_too(admin):
    done = piw_add("seven", "--json", PIW_IMPORT_QUEUE=admin.address)
    assert (done.returncode, json.loads(done.stdout)["hint"]) == (1, "check the spelling")


# Files of requirements


def add_file(admin, tmp_path, lines, *arguments):
    file = tmp_path / "requirements.txt"
    file.write_text(lines)
    return piw_add("--requirements", str(file), *arguments, PIW_IMPORT_QUEUE=admin.address)


def test_all_that_a_file_of_requirements_names_is_added(admin, pypi, rows, target, tmp_path):
    for name in ("six-1.0", "six-1.1", "attrs-2", "django-4.2"):
        pypi.put(f"{name}.tar.gz", name.encode())
    (tmp_path / "more.txt").write_text("attrs\n")
    lines = "six==1.0 \\\n  --hash=sha256:abc  # why\n-r more.txt\nDjango[x]>=4; os_name\n"
    done = add_file(admin, tmp_path, lines.replace("os_name", 'os_name == "posix"'))
    assert (done.returncode, done.stderr) == (0, "")
    followed = "SELECT name, version, follow FROM versions JOIN packages USING (package_id)"
    assert rows(f"{followed} WHERE lane = 0 ORDER BY name") == [
        ("attrs", "2", "listed"),
        ("django", "4.2", ""),
        ("six", "1.0", ""),
    ]


def test_what_cannot_be_added_holds_up_nothing_else_of_the_file(admin, pypi, tmp_path):
    pypi.put("six-1.0.tar.gz", b"six")
    done = add_file(admin, tmp_path, "unheard-of\ngit+https://x.example/y.git#egg=y\nsix\n")
    assert done.returncode == 1
    assert "six 1.0 will be built" in done.stdout
    assert "unheard-of: there is no project unheard-of" in done.stderr
    assert "not from an index: git+https://x.example/y.git" in done.stderr
    assert "1 of 2 could not be added" in done.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "names no package"),
        ("six ==== 1\n", "is no file of requirements"),
        ("-r missing.txt\n", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_meant_adds_nothing(admin, rows, tmp_path, lines, said):
    done = add_file(admin, tmp_path, lines)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert rows("SELECT count(*) FROM packages") == [(0,)]


def test_what_is_for_one_package_is_not_said_of_a_file(admin, tmp_path):
    assert "--skip is for one package" in add_file(admin, tmp_path, "six\n", "--skip", "x").stderr
    assert "give one of them" in add_file(admin, tmp_path, "six\n", "six").stderr
