import shutil
import sys
from pathlib import Path

import pytest

from tests.postgres_fixture import copy_data, prepared_postgres, run_folder
from tests.pypi_server import small_pypi
from tests.running_farm import put_packages, running_farm


@pytest.fixture(scope="session")
def pypi(tmp_path_factory):
    """An index with every package of tests/packages."""
    with small_pypi(tmp_path_factory.mktemp("pypi")) as index:
        put_packages(index)
        yield index


@pytest.fixture(scope="session")
def prepare(tmp_path_factory):
    """Spare the farm that will be in a directory the making of its cluster; return the directory.

    For all farms but those whose first start is what the test is about.
    """

    def prepare(data):
        data.mkdir(exist_ok=True)
        copy_data(prepared_postgres(run_folder(tmp_path_factory)), data / "postgresql")
        return data

    return prepare


@pytest.fixture
def data(tmp_path, prepare):
    """The prepared directory of a farm."""
    return prepare(tmp_path / "farm")


@pytest.fixture(scope="module")
def farm(tmp_path_factory, prepare, pypi):
    """A farm that other tests of the module use too."""
    with running_farm(prepare(tmp_path_factory.mktemp("farm")), pypi.simple_url) as farm:
        yield farm


@pytest.fixture
def pythons():
    """Two interpreters of different versions, or a skip that says what is missing."""
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = []
    for minor in range(13, 7, -1):
        version = f"3.{minor}"
        local = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python3"))
        path = str(local[-1]) if local else shutil.which(f"python{version}")
        if path and version != this:
            found.append(path)
    if not found:
        pytest.skip(f"needs another CPython than {this}, 3.8 to 3.13")
    return [sys.executable, found[0]]
