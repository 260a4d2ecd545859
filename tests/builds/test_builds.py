"""Real builds of tiny packages, each in the strongest sandbox there is."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from piwheels.protocol.slave import LOG_NAME
from tests.builds.conftest import serving, slave_of

PYTHONS = sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python3.[0-9]*[0-9]"))


@pytest.fixture
def odd_seconds():
    """An argument for sleep that marks the processes of this test."""
    return f"{random.randrange(10_000, 99_999)}.5"


def sleepers(odd_seconds):
    """Pids of the processes that sleep for so long."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", odd_seconds.encode()]:
            found.append(int(path.parent.name))
    return found


def wait_until(is_so):
    """Wait for what must come; the test's time limit is the limit."""
    for _ in itertools.count():
        if is_so():
            return
        time.sleep(0.02)


def test_a_pure_package_becomes_a_wheel(slave):
    result = slave.build("tiny-pure")
    assert result.failure is None
    assert result.wheel.name == "tiny_pure-1.0-py3-none-any.whl"
    assert result.begun == ["fetching", "preparing", "building", "inspecting"]


def test_a_package_with_c_code_becomes_a_wheel_with_native_code(slave):
    result = slave.build("tiny-extension", native=True)
    assert result.failure is None
    names = zipfile.ZipFile(result.wheel).namelist()
    assert [name for name in names if name.endswith(".so")]
    assert "setuptools" in result.environment


def test_what_a_build_used_is_reported_from_inside_the_sandbox(slave):
    result = slave.build("tiny-extension")
    assert result.sandbox == "L2"
    assert result.cpu_seconds > 0.1  # the compiler alone takes longer
    assert result.peak_memory > 10 * 1024**2


def test_a_package_with_nothing_but_setup_py_is_built(slave):
    assert slave.build("tiny-legacy").failure is None


def test_the_same_sdist_gives_the_same_wheel(slave):
    first, second = (slave.build("tiny-extension").wheel.read_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "python", PYTHONS or [None], ids=lambda path: getattr(path, "name", "none")
)
def test_other_interpreters_build_for_themselves(slave, python):
    if python is None:
        pytest.skip("there are no interpreters in ~/.pyenv/versions")
    if slave.user.name == "nobody":
        pytest.skip("nobody cannot read the interpreters in ~/.pyenv/versions")
    minor = int(python.name.partition(".")[2])
    if not 8 <= minor <= 14:
        pytest.skip(f"{python.name} is not among the interpreters that wheels are built for")
    result = slave.build("tiny-extension", python=python, native=True)
    assert result.failure is None
    assert f"-cp3{minor}-cp3{minor}-" in result.wheel.name


def test_a_syntax_error_is_reported_with_file_and_line(slave):
    failure = slave.build("tiny-broken").failure
    assert failure["kind"] == "compile or source error"
    assert failure["cause"].startswith("tiny_broken.c:5:14: expected")


def test_a_missing_header_is_reported_with_the_package_that_holds_it(slave):
    failure = slave.build("tiny-missing-header").failure
    assert failure["kind"] == "missing header or tool"
    assert failure["fix"] == "apt install libpq-dev"


def test_a_requirement_that_cannot_be_had_is_named(slave):
    failure = slave.build("tiny-needy").failure
    assert failure["kind"] == "build dependency unavailable"
    assert "setuptools" in failure["cause"]


def test_an_index_that_does_not_answer_is_not_the_packages_fault(slave):
    closed = "http://127.0.0.1:9/simple"
    assert slave.build("tiny-pure", index_urls=[closed]).kind == "index unavailable"


def test_an_endless_log_is_cut_and_ends_the_build(slave):
    result = slave.build("tiny-noisy", limits={"output": 50_000})
    assert result.kind == "too much output"
    assert 50_000 < len(result.log) < 53_000
    assert "[cut here: the build printed more than 50000 bytes]" in result.log
    assert "=== Verdict" in result.log


def test_a_silent_build_is_ended(slave, odd_seconds):
    environment = {"SILENT_SECONDS": odd_seconds}
    result = slave.build("tiny-silent", limits={"silence": 2}, environment=environment)
    assert result.kind == "silent"
    assert sleepers(odd_seconds) == []


def test_a_build_that_takes_too_long_is_ended(slave, odd_seconds):
    environment = {"SILENT_SECONDS": odd_seconds}
    result = slave.build("tiny-silent", limits={"seconds": 4}, environment=environment)
    assert result.kind == "timeout"
    assert sleepers(odd_seconds) == []


def test_a_build_that_takes_too_much_memory_is_reported_as_such(slave):
    assert slave.build("tiny-hungry", limits={"memory": 1024**3}).kind == "out of memory"


def test_a_cancelled_build_ends_with_all_its_processes(slave, odd_seconds):
    order = slave.order("tiny-silent", environment={"SILENT_SECONDS": odd_seconds})
    build = slave.start(order)
    wait_until(lambda: sleepers(odd_seconds))
    build.process.send_signal(signal.SIGTERM)
    assert build.finish().failure["cause"] == "the build was cancelled"
    assert sleepers(odd_seconds) == []


def test_a_slave_that_is_killed_takes_its_build_along(slave, odd_seconds):
    build = slave.start(slave.order("tiny-silent", environment={"SILENT_SECONDS": odd_seconds}))
    wait_until(lambda: sleepers(odd_seconds))
    build.process.kill()
    build.process.communicate()
    wait_until(lambda: not sleepers(odd_seconds))


def test_what_a_killed_slave_left_on_disk_is_removed_by_the_next_build(slave, odd_seconds):
    build = slave.start(slave.order("tiny-silent", environment={"SILENT_SECONDS": odd_seconds}))
    wait_until(lambda: sleepers(odd_seconds))
    build.process.kill()
    build.process.communicate()
    assert len(list((slave.directory / "builds").iterdir())) == 1
    wait_until(lambda: not sleepers(odd_seconds))
    slave.build("tiny-escapee", environment={"ESCAPEE_SECONDS": odd_seconds})


@pytest.mark.parametrize("level", ["L0", "L1", "L2"])
def test_a_daemon_does_not_outlive_the_build_that_started_it(slave, odd_seconds, level):
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    environment = {"ESCAPEE_SECONDS": odd_seconds}
    result = slave.build("tiny-escapee", python=python, level=level, environment=environment)
    assert result.failure is None
    assert sleepers(odd_seconds) == []


def test_a_build_that_wants_the_network_is_told_apart(slave):
    failure = slave.build("tiny-networker").failure
    assert failure["kind"] == "needs network"


def test_a_wheel_of_another_package_is_refused(slave):
    result = slave.build("tiny-liar")
    assert result.kind == "bad wheel"
    assert "somebody-else" in result.failure["cause"]
    assert [path.name for path in result.spool.iterdir()] == [LOG_NAME]


def test_a_wheel_without_its_native_code_is_degraded(slave):
    result = slave.build("tiny-degraded", native=True, environment={"CC": "no-compiler"})
    assert result.kind == "degraded wheel"
    assert result.wheels == []


def test_a_wheel_with_its_native_code_is_not_degraded(slave):
    assert slave.build("tiny-degraded", native=True).failure is None


@pytest.fixture(scope="module")
def curious(user, slave_directory, tmp_path_factory):
    """What a nosy build found, by what it tried; one build for all who ask."""
    folder = tmp_path_factory.mktemp("curious")
    with serving(folder) as server, slave_of(user, slave_directory, server, folder) as slave:
        secret = slave.spools / "secret"
        secret.write_text("the wheel of somebody else")
        os.chown(secret, user.uid, -1)
        with subprocess.Popen(["sleep", "600"]) as victim:
            environment = {"VICTIM": str(victim.pid), "SECRET": str(secret)}
            result = slave.build("tiny-curious", environment=environment)
            survived = victim.poll() is None
            victim.kill()
    lines = [line.partition(": ") for line in result.log.splitlines()]
    return {name: answer for name, _, answer in lines} | {"survived": survived}


def test_a_build_cannot_read_the_spool_of_another(curious):
    assert curious["read"] == "FileNotFoundError"


def test_a_build_cannot_signal_processes_of_the_machine(curious):
    assert curious["kill"] == "ProcessLookupError"
    assert curious["survived"]


def test_a_build_sees_no_process_but_its_own(curious):
    assert curious["processes"] == "[1, 2, 3]"


def test_a_build_has_no_network_but_its_own_loopback(curious):
    assert curious["interfaces"] == "['lo']"


def test_a_build_is_never_root_and_has_no_capabilities(curious):
    assert curious["uid"] != "0"
    assert curious["capabilities"] == "['0000000000000000', '0000000000000000']"


def test_a_build_cannot_change_its_requirements_for_the_next_one(curious):
    assert curious["write environment"] in ("PermissionError", "OSError")


def test_a_build_has_an_empty_home_and_a_fixed_place(curious):
    assert curious["home"] == "[]"
    assert curious["directory"] == "/build"


def test_a_build_sees_none_of_the_slaves_environment(curious):
    assert "PIWHEELS_BUILD" in curious["variables"]
    assert "GIT_TERMINAL_PROMPT" in curious["variables"]
    assert "PYTHONPATH" not in curious["variables"]
    assert "SSL_CERT_FILE" not in curious["variables"]


def test_two_slaves_may_prepare_the_same_environment_at_once(slave, user):
    shared = slave.spools / "shared"
    shared.mkdir()
    os.chown(shared, user.uid, -1)
    slave.directory = shared
    builds = [slave.start(slave.order("tiny-pure")) for _ in range(2)]
    assert [build.finish().failure for build in builds] == [None, None]
    made = [path for path in (shared / "environments").iterdir() if len(path.name) == 32]
    assert len(made) == 1
