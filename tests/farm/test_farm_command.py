"""piw-farm as a person meets it: what it says, how it ends, what it leaves."""

import gzip
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.running_farm import BIN, running_farm, start

NOWHERE = "http://127.0.0.1:9/simple/"  # nobody listens on the discard port


def run_to_end(data, pypi, *words, environment=None):
    """Run a farm until it leaves; return it."""
    farm = start(data, pypi, "--exit", *words, environment=environment)
    farm.process.wait(200)
    return farm


def errors(farm):
    return (farm.data / "logs" / "errors.log").read_text()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, prepare, pypi):
    """A farm that ended with Ctrl+C amid a build; its exit status and what its processes were."""
    data = prepare(tmp_path_factory.mktemp("farm"))
    with running_farm(data, pypi.simple_url, "tiny-slow") as farm:
        farm.status(until=lambda now: now.running)
        processes = farm.processes()
        return data, farm.interrupt(), processes


def test_ctrl_c_ends_every_process(interrupted):
    data, status, processes = interrupted
    assert status == 0
    assert len(processes) > 10
    _, alive = psutil.wait_procs(processes, timeout=0)
    assert alive == []
    assert not (data / "postgresql" / "cluster" / "postmaster.pid").exists()


def test_a_build_that_was_interrupted_is_made_by_the_next_run(interrupted, pypi):
    data, _, _ = interrupted
    again = run_to_end(data, pypi.simple_url)
    assert again.process.returncode == 0, again.text() + errors(again)
    assert (data / "www" / "simple" / "tiny-slow").exists()


def test_a_farm_that_is_killed_leaves_no_process(data, pypi):
    with running_farm(data, pypi.simple_url, "tiny-slow") as farm:
        farm.status(until=lambda now: now.running)
        processes = farm.processes()
        farm.process.kill()
        farm.process.wait()
        _, alive = psutil.wait_procs(processes, timeout=60)
    assert alive == []


def test_a_second_run_goes_on_with_the_data_of_the_first(tmp_path, pypi):
    first = run_to_end(tmp_path / "farm", pypi.simple_url, "tiny-pure")
    assert first.process.returncode == 0, first.text() + errors(first)
    assert "1 of 1 have a wheel" in first.text()
    second = run_to_end(tmp_path / "farm", pypi.simple_url, "tiny-pure")
    assert second.process.returncode == 0, second.text() + errors(second)
    assert "tiny-pure 1.0 (known already)" in second.text()
    assert " in 0." not in second.text(), "nothing was built again"


def test_a_failure_makes_the_exit_status_and_is_told_with_cause_and_log(data, pypi):
    farm = run_to_end(data, pypi.simple_url, "tiny-missing-header", "tiny-pure")
    assert farm.process.returncode == 1
    text = farm.text()
    assert "✗ tiny-missing-header 1.0" in text
    assert "the header libpq-fe.h is missing" in text
    assert "→ apt install libpq-dev" in text
    log = re.search(r"log: (/\S+)", text)[1]  # nobody serves it any more
    assert "libpq-fe.h: No such file" in gzip.decompress(Path(log).read_bytes()).decode()
    assert "✓ tiny-pure 1.0" in text
    assert "1 of 2 have a wheel" in text


@pytest.fixture(scope="module")
def asked_in_vain(tmp_path_factory, prepare, pypi):
    """A farm that was asked for nothing but what does not exist."""
    data = prepare(tmp_path_factory.mktemp("farm"))
    return run_to_end(data, pypi.simple_url, "no-such-package", "tiny-pure==99")


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        ("there is no project no-such-package", "check the spelling"),
        ("no version of tiny-pure", "try"),
    ],
)
def test_what_does_not_exist_is_told_with_the_next_step(asked_in_vain, reason, step):
    assert asked_in_vain.process.returncode == 1
    lines = asked_in_vain.text().splitlines()
    told = next(number for number, line in enumerate(lines) if reason in line)
    assert step in "".join(lines[told : told + 2])
    assert "Traceback" not in asked_in_vain.text() + errors(asked_in_vain)


def test_without_a_network_it_says_so(data):
    farm = run_to_end(data, NOWHERE, "tiny-pure")
    assert farm.process.returncode == 1
    assert "✗ tiny-pure: " in farm.text()
    assert "→" in farm.text()
    assert "Traceback" not in farm.text() + errors(farm)


def piw_farm(*words, **environment):
    return subprocess.run(
        [BIN / "piw-farm", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
    )


def test_a_taken_port_is_named_with_the_next_step(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        answer = piw_farm("--data", tmp_path / "farm", "--port", port)
    assert answer.returncode == 1
    assert f"port {port}" in answer.stderr
    assert "choose another" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--python", "/no/such/python"], "there is no interpreter /no/such/python"),
        (["six=1"], "is not a requirement"),
        (["../x"], "is not a package name"),
        (["--python", sys.executable, "--python", sys.executable], "build the same wheels"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_starts(tmp_path, words, said):
    answer = piw_farm("--data", tmp_path / "farm", "--port", "0", *words)
    assert answer.returncode in (1, 2)
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "farm").exists()


def test_data_that_cannot_be_kept_is_told_with_the_next_step(tmp_path):
    (tmp_path / "file").write_text("in the way")
    answer = piw_farm("--data", tmp_path / "file" / "farm", "--port", "0")
    assert answer.returncode == 1
    assert "choose another --data" in answer.stderr


def test_without_a_compiler_it_says_what_to_install_and_the_failure_says_so_too(
    tmp_path, data, pypi
):
    tools = tmp_path / "bin"  # all of the machine's but its compilers
    tools.mkdir()
    for folder in ("/usr/bin", "/usr/sbin"):
        for tool in os.listdir(folder):
            if not any(part in tool for part in ("gcc", "cc", "clang", "c++", "g++", "c99", "c89")):
                (tools / tool).unlink(missing_ok=True)
                (tools / tool).symlink_to(os.path.join(folder, tool))
    farm = run_to_end(data, pypi.simple_url, "tiny-pure", environment={"PATH": str(tools)})
    assert "There is no C compiler here" in farm.text()
    assert "apt install build-essential" in farm.text()
    assert farm.process.returncode == 0, farm.text() + errors(farm)
