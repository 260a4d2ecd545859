"""A slave on a disk that is full, really, reports its builds and goes on."""

import hashlib
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from piwheels.model.builds import BuildResult, Failure, FailureClass, Outcome
from piwheels.protocol.slave import (
    FROM_SLAVE,
    LOG_NAME,
    Build,
    Built,
    Busy,
    Continue,
    Done,
    Hello,
    Idle,
    OrderedLimits,
    OrderedSdist,
)
from piwheels.slave.spool import Spool
from tests.builds.scripted_master import WELCOME, Master
from tests.sdists import PACKAGES, make_sdist

LEASE = b"l" * 16
DISK_BYTES = 32 * 1024**2
SECONDS = 120


@pytest.fixture
def order(server, tmp_path):
    """Of a package that requires nothing for building."""
    sdist = make_sdist(PACKAGES / "tiny-liar", tmp_path)
    content = sdist.read_bytes()
    url = f"http://127.0.0.1:{server.server_port}/{sdist.name}"
    ordered = OrderedSdist(sdist.name, url, hashlib.sha256(content).hexdigest(), len(content))
    limits = OrderedLimits(SECONDS, SECONDS, 0, 0, 1_000_000, 0)
    return Build(LEASE, 1, "tiny-liar", "1.0", ordered, limits)


@contextmanager
def slave_on_small_disk(master, place):
    """A real piw-slave; yields its directory, on a disk that only it and we see."""
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is missing")
    place.mkdir()
    command = ["bwrap", "--dev-bind", "/", "/", "--size", str(DISK_BYTES), "--tmpfs", str(place)]
    command += ["--die-with-parent", str(Path(sys.executable).with_name("piw-slave"))]
    command += ["--slave-queue", master.listener.address, "--dir", str(place), "--label", "tiny"]
    with subprocess.Popen(command) as process:
        try:
            master.hear(Hello)
            (inside, *_) = psutil.Process(process.pid).children()
            yield Path(f"/proc/{inside.pid}/root{place}")
        finally:
            process.kill()


def fill(directory):
    """Leave not a byte of room on the disk of *directory*."""
    words = ["dd", "if=/dev/zero", f"of={directory / 'filler'}", "bs=64k"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "No space left" in done.stderr


def report_of(master, order):
    """What the slave says in the end of a build that it is given."""
    master.say(WELCOME)
    master.hear(Idle)
    master.say(order)
    while isinstance(message := master.hear((Built, Busy)), Busy):
        master.say(Continue())
    return message


def test_a_build_on_a_full_disk_is_reported_and_the_slave_goes_on(order, tmp_path):
    with Master() as master, slave_on_small_disk(master, tmp_path / "slave") as directory:
        fill(directory)
        built = report_of(master, order)
        assert (built.outcome, built.kind) == (Outcome.FAILURE, FailureClass.DISK_FULL)
        assert built.log is None
        master.say(Done())
        master.hear(Idle)


def test_a_slave_that_cannot_keep_results_says_so_and_goes_on(order, tmp_path):
    with Master() as master, slave_on_small_disk(master, tmp_path / "slave") as directory:
        (directory / "spool").rmdir()
        (directory / "spool").touch()
        built = report_of(master, order)
        assert (built.outcome, built.kind) == (Outcome.FAILURE, FailureClass.SANDBOX)
        assert built.log is None
        master.say(Done())
        master.hear(Idle)


# What is kept of a result.


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


def test_a_result_without_a_log_is_kept_and_found_again(spool):
    spool.open(LEASE)
    failure = Failure(FailureClass.SANDBOX, "bwrap is missing")
    built = spool.keep(LEASE, BuildResult(failure=failure))
    assert built.log is None
    assert list(spool.results()) == [built]
    assert spool.files(built) == {}


def test_a_wheel_that_cannot_be_kept_is_a_failure_of_the_slave(spool):
    folder = spool.open(LEASE)
    (folder / LOG_NAME).write_text("all went well")
    gone = folder / "tiny-1.0-py3-none-any.whl"
    built = spool.keep(LEASE, BuildResult(log=folder / LOG_NAME, wheels=(gone,)))
    assert (built.outcome, built.kind) == (Outcome.FAILURE, FailureClass.SANDBOX)
    assert (built.wheels, built.log) == ((), None)
    assert list(spool.results()) == [built]


def test_the_package_that_a_build_lacked_is_told_to_the_master(spool):
    folder = spool.open(LEASE)
    (folder / LOG_NAME).touch()
    failure = Failure(FailureClass.DEPENDENCY_UNAVAILABLE, "no numpy", needs="numpy")
    built = spool.keep(LEASE, BuildResult(log=folder / LOG_NAME, failure=failure))
    assert FROM_SLAVE.decode(FROM_SLAVE.encode(built)).needs == "numpy"
