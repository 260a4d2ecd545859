"""kill -9 of anything in the middle of a build: it comes back, and the wheel is published."""

import itertools
import os
import signal

import psutil
import pytest

from tests.sdists import PACKAGES, make_sdist

SERVICES = ["dispatcher", "receiver", "keeper", "admin", "status", "publisher"]
PROGRAMS = ["master", "slave", "web", "postgresql"]
NUMBERS = itertools.count(1)


@pytest.fixture
def releases(pypi, farm):
    """Release another version of tiny-slow at each call; return it."""
    source = PACKAGES / "tiny-slow"

    def release():
        version = f"1.{next(NUMBERS)}"
        make_sdist(source, pypi.folder, version)
        return version

    return release


def is_building(now):
    return any(build.package == "tiny-slow" and build.phase == "building" for build in now.running)


@pytest.mark.parametrize("name", SERVICES + PROGRAMS)
def test_a_build_survives_the_death_of(name, farm, releases):
    version = releases()
    assert farm.add("tiny-slow", version).returncode == 0
    farm.status(until=is_building)
    victim = psutil.Process(farm.pid(name))
    os.kill(victim.pid, signal.SIGKILL)
    now = farm.status(
        until=lambda now: any(
            (build.version, build.outcome) == (version, "success") for build in now.ended
        )
    )
    assert now.running == ()
    filename = f"tiny_slow-{version}-py3-none-any.whl"
    farm.status(until=lambda now: now.pages == 0 and now.queued == 0)
    assert filename in farm.wait_for_file("tiny-slow")
    assert farm.pid(name) != victim.pid
    assert psutil.pid_exists(farm.pid(name))


def test_a_build_whose_master_restarts_is_the_same_build_afterwards(farm, releases):
    version = releases()
    farm.add("tiny-slow", version)
    before = farm.status(until=is_building).running[0].build_id
    os.kill(farm.pid("master"), signal.SIGKILL)
    now = farm.status(until=lambda now: [b for b in now.ended if b.version == version])
    assert [b.build_id for b in now.ended if b.version == version] == [before]
