import grp
import os
import pwd
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.processes.privileges import (
    DYNAMIC_UIDS,
    CannotChangeUser,
    dynamic_uid,
    is_root,
    run_as,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def status_of(words: list[str]) -> dict[str, str]:
    """What /proc says of a command run with these words in front."""
    answer = subprocess.run(
        [*words, "cat", "/proc/self/status"], capture_output=True, text=True, check=True
    )
    return dict(line.split(":\t", 1) for line in answer.stdout.splitlines() if ":\t" in line)


def test_root_is_told_by_its_effective_uid():
    assert is_root() == (os.geteuid() == 0)


@given(st.integers(0, 40), st.integers(0, 40))
def test_each_slot_has_its_own_uid_that_nobody_else_has(one, other):
    uid = dynamic_uid(one)
    assert uid in DYNAMIC_UIDS
    assert (uid == dynamic_uid(other)) == (one == other)
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)
    with pytest.raises(KeyError):
        grp.getgrgid(uid)


def test_a_slot_beyond_the_range_is_refused_with_the_next_step():
    with pytest.raises(CannotChangeUser, match="fewer builds"):
        dynamic_uid(len(DYNAMIC_UIDS))


@as_root
def test_a_command_runs_as_the_uid_without_groups_or_privileges():
    status = status_of(run_as(61184, 61185))
    assert status["Uid"].split() == ["61184"] * 4
    assert status["Gid"].split() == ["61185"] * 4
    assert status["Groups"].split() == []
    assert status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind], 16) == 0


@as_root
def test_a_command_may_keep_the_one_capability_that_it_needs(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("told")
    secret.chmod(0)
    words = [*run_as(61184, 61184, capabilities=["dac_read_search"]), "cat", str(secret)]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "told"
    effective = int(status_of(words[: words.index("cat")])["CapEff"], 16)
    assert effective.bit_count() == 1


@as_root
def test_a_command_without_it_reads_no_secret(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("told")
    secret.chmod(0)
    words = [*run_as(61184, 61184), "cat", str(secret)]
    assert subprocess.run(words, capture_output=True, check=False).returncode != 0


@as_root
def test_a_command_dies_with_its_parent_although_its_uid_changed():
    report, voice = os.pipe()
    command = run_as(61184, 61184, death_signal=signal.SIGTERM)
    parent = os.fork()
    if parent == 0:
        child = subprocess.Popen(
            [*command, "sh", "-c", "echo up; exec sleep 1000"],
            stdout=voice,
        )
        signal.pause()
        os._exit(child.pid)
    os.close(voice)
    with os.fdopen(report, "rb") as output:
        assert output.readline() == b"up\n"
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert output.read() == b""  # ends once the command does: it holds the other end
