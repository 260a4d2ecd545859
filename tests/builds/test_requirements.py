"""Build requirements from a real index by the real uv: what is chosen, and what is lacking."""

import sys
import threading
from datetime import UTC, datetime

import pytest

from piwheels.slave.clock import Clock
from piwheels.slave.environments import Environments, Request
from piwheels.slave.failed import BuildFailed
from piwheels.slave.interpreter import probe
from tests.builds.wheels import make_wheel
from tests.pypi_server import small_pypi

CLOCK = Clock.start(0, threading.Event())


@pytest.fixture(scope="module")
def interpreter():
    return probe(sys.executable)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index that is the only one."""
    folder = tmp_path / "index"
    folder.mkdir()
    with small_pypi(folder) as served:
        monkeypatch.setenv("UV_DEFAULT_INDEX", served.simple_url)
        yield served


@pytest.fixture
def environments(tmp_path, interpreter):
    return Environments(tmp_path / "environments", interpreter, protected=True)


def put(index, name, version="1.0", tag="py3-none-any", requires=(), **details):
    filename, content = make_wheel(name, version, tag, requires)
    index.put(filename, content, **details)


def installed(environments, *requirements, tools_before=None):
    request = Request(requirements, tools_before=tools_before)
    with environments.provide(request, CLOCK) as environment:
        return environment.packages


def refused(environments, *requirements):
    with pytest.raises(BuildFailed) as caught:
        installed(environments, *requirements)
    failure = caught.value.failure
    assert failure.kind == "build dependency unavailable"
    return failure


def test_a_requirement_that_does_not_exist_is_what_is_needed(index, environments):
    assert refused(environments, "gone>=1").needs == "gone"


def test_a_needed_package_is_named_as_indexes_name_it(index, environments):
    assert refused(environments, "Quite_Gone").needs == "quite-gone"


def test_a_requirement_without_a_version_that_fits_is_what_is_needed(index, environments):
    put(index, "tool", "1.0")
    put(index, "tool", "1.5")
    assert refused(environments, "tool>=2").needs == "tool"
    assert refused(environments, "tool==1.2").needs == "tool"


def test_a_requirement_that_has_only_an_sdist_is_what_is_needed(index, environments):
    index.put("tool-1.0.tar.gz", b"whatever")
    put(index, "other")
    failure = refused(environments, "other", "tool")
    assert failure.needs == "tool"
    assert failure.fix == "have the farm build tool for this target: piw-add tool"


@pytest.mark.parametrize("tag", ["py3-none-win_amd64", "cp27-cp27m-linux_x86_64"])
def test_a_requirement_without_a_wheel_for_this_target_is_what_is_needed(index, environments, tag):
    put(index, "tool", tag=tag)
    assert refused(environments, "tool").needs == "tool"


def test_a_requirement_for_another_python_is_what_is_needed(index, environments):
    put(index, "tool", requires_python=">=3.99")
    assert refused(environments, "tool").needs == "tool"


def test_a_requirement_that_was_yanked_is_what_is_needed(index, environments):
    put(index, "tool", yanked="broken")
    assert refused(environments, "tool>=1").needs == "tool"


@pytest.mark.parametrize("deepest", ["gone", "sdist-only", "old>=2", "foreign"])
def test_what_a_requirement_of_a_requirement_lacks_is_what_is_needed(index, environments, deepest):
    index.put("sdist_only-1.0.tar.gz", b"whatever")
    put(index, "old")
    put(index, "foreign", tag="py3-none-win_amd64")
    put(index, "lower", requires=[deepest])
    put(index, "upper", requires=["lower"])
    assert refused(environments, "old", "upper").needs == deepest.partition(">")[0]


def test_of_many_versions_without_wheels_the_package_is_what_is_needed(index, environments):
    for version in ("1.0", "1.2", "3.0"):
        index.put(f"tool-{version}.tar.gz", b"whatever")
    put(index, "tool", "1.1", tag="py3-none-win_amd64")
    put(index, "tool", "2.0")
    assert refused(environments, "tool!=2.0").needs == "tool"


def test_what_requires_too_little_is_what_is_needed_if_requirements_contradict(index, environments):
    put(index, "tool", "1.0")
    put(index, "tool", "2.0")
    put(index, "stale", requires=["tool<2"])
    assert refused(environments, "stale", "tool>=2").needs == "stale"


def test_nothing_is_needed_if_what_is_asked_for_contradicts_itself(index, environments):
    put(index, "tool", "1.0")
    put(index, "tool", "2.0")
    assert refused(environments, "tool<2", "tool>=2").needs == ""


# Build tools of an era.

THEN = datetime(2021, 6, 1, tzinfo=UTC)


@pytest.fixture
def dated(index):
    put(index, "tool", "1.0", upload_time="2021-01-01T00:00:00Z")
    put(index, "tool", "2.0", upload_time="2022-01-01T00:00:00Z")
    return index


def test_requirements_are_the_newest(dated, environments):
    assert installed(environments, "tool") == {"tool": "2.0"}


def test_requirements_of_an_era_are_the_newest_of_then(dated, environments):
    assert installed(environments, "tool", tools_before=THEN) == {"tool": "1.0"}


def test_what_was_chosen_for_one_era_is_not_taken_for_another(dated, environments):
    assert installed(environments, "tool", tools_before=THEN) == {"tool": "1.0"}
    assert installed(environments, "tool") == {"tool": "2.0"}
    assert installed(environments, "tool", tools_before=THEN) == {"tool": "1.0"}


def test_what_had_no_wheel_then_is_taken_from_later(dated, environments):
    put(dated, "compiled", upload_time="2026-01-01T00:00:00Z")
    put(dated, "setuptools", "57.0.0", upload_time="2021-05-01T00:00:00Z")
    put(dated, "setuptools", "80.0.0", upload_time="2025-05-01T00:00:00Z")
    packages = installed(environments, "compiled", "setuptools", tools_before=THEN)
    assert packages == {"compiled": "1.0", "setuptools": "57.0.0"}


def test_an_index_that_tells_no_times_still_gives_what_nobody_else_has(dated, environments):
    put(dated, "homemade")
    packages = installed(environments, "homemade", "tool", tools_before=THEN)
    assert packages["homemade"] == "1.0"


def test_a_build_is_given_the_tools_of_an_era(slave, tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    with small_pypi(folder) as index:
        for version, year in (("1.0", 2020), ("2.0", 2022)):
            put(index, "tiny-tool", version, upload_time=f"{year}-01-01T00:00:00Z")
        order = {"index_urls": [index.simple_url]}
        new = slave.build("tiny-dated", **order)
        old = slave.build("tiny-dated", tools_before=THEN.isoformat(), **order)
    assert (new.failure, new.environment) == (None, {"tiny-tool": "2.0"})
    assert (old.failure, old.environment) == (None, {"tiny-tool": "1.0"})
    assert "with build tools of 2021-06-01" in old.log
