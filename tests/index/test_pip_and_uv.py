"""Real pip and real uv against a real server over a tree that the real writer wrote."""

import gzip
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import html5lib
import pytest
import requests
from pypi_simple import PyPISimple

from piwheels.index.pages import Home, Site
from piwheels.index.writer import WebTree
from tests.index.conftest import make_wheel, project, publish, running_server

PIP = [sys.executable, "-m", "pip"]
UV = [str(Path(sys.executable).with_name("uv"))]


class Installer:
    """pip or uv, which know no other index than those they are told of."""

    def __init__(self, name: str, folder: Path, index: str):
        self.name = name
        self.target = folder / "installed"
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "PIP_INDEX_URL": index,
            "PIP_RETRIES": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "UV_DEFAULT_INDEX": index,
            "UV_PYTHON": sys.executable,
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_CACHE_DIR": str(folder / "uv-cache"),
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*PIP, "install"] if self.name == "pip" else [*UV, "pip", "install"]
        return self.run(*command, "--target", str(self.target), *arguments)

    def versions(self) -> set[str]:
        return {path.stem for path in self.target.glob("*.dist-info")}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("www")


@pytest.fixture(scope="module")
def server(root):
    """One server for all tests of this file: it knows nothing but what lies in *root* just now."""
    with running_server(root) as running:
        yield running


@pytest.fixture
def tree(root) -> WebTree:
    """A test's own tree, empty, where the server is."""
    shutil.rmtree(root)
    root.mkdir()
    return WebTree(root)


@pytest.fixture(params=["pip", "uv"])
def installer(request, tmp_path, server) -> Installer:
    return Installer(request.param, tmp_path, f"{server.url}simple/")


def test_a_published_wheel_is_installed(tree, staging, installer):
    files = (publish(tree, make_wheel(staging, "tiny_thing", "1.0")),)
    tree.write_project(project("tiny-thing", files))
    done = installer.install("Tiny.Thing")
    assert done.returncode == 0, done.stderr
    assert installer.versions() == {"tiny_thing-1.0"}


def test_an_index_that_is_read_from_disk_needs_no_server(tree, staging, installer):
    files = (publish(tree, make_wheel(staging, "tiny", "1.0")),)
    tree.write_project(project("tiny", files))
    index = (tree.root / "simple").as_uri()  # the way to the HTML page: nothing is negotiated
    installer.environment |= {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index}
    done = installer.install("tiny")
    assert done.returncode == 0, done.stderr
    assert installer.versions() == {"tiny-1.0"}


def test_a_version_for_another_python_is_passed_over(tree, staging, installer):
    tree.write_project(
        project(
            "tiny",
            (
                publish(tree, make_wheel(staging, "tiny", "2.0", ">=99"), ">=99"),
                publish(tree, make_wheel(staging, "tiny", "1.0", ">=3.8"), ">=3.8"),
            ),
        )
    )
    assert installer.install("tiny").returncode == 0
    assert installer.versions() == {"tiny-1.0"}


@pytest.mark.parametrize("reason", ["", "it was <broken>"])
def test_a_yanked_version_is_passed_over(tree, staging, installer, reason):
    tree.write_project(
        project(
            "tiny",
            (
                publish(tree, make_wheel(staging, "tiny", "2.0"), yanked=reason),
                publish(tree, make_wheel(staging, "tiny", "1.0")),
            ),
        )
    )
    assert installer.install("tiny").returncode == 0
    assert installer.versions() == {"tiny-1.0"}


def test_a_yanked_version_is_installed_where_it_is_pinned(tree, staging, installer):
    files = (publish(tree, make_wheel(staging, "tiny", "2.0"), yanked="it was <broken>"),)
    tree.write_project(project("tiny", files))
    done = installer.install("tiny==2.0")
    assert installer.versions() == {"tiny-2.0"}
    assert "it was <broken>" in done.stdout + done.stderr


def test_a_wheel_with_another_hash_than_its_page_states_is_refused(tree, staging, installer):
    file = publish(tree, make_wheel(staging, "tiny", "1.0"))
    tree.write_project(project("tiny", (replace(file, sha256="0" * 64),)))
    assert installer.install("tiny").returncode != 0
    assert installer.versions() == set()


def test_the_higher_build_tag_is_preferred(tree, staging, installer):
    first = make_wheel(staging, "tiny", "1.0")
    rebuilt = staging / "tiny-1.0-2-py3-none-any.whl"
    rebuilt.write_bytes(first.read_bytes())
    tree.write_project(project("tiny", (publish(tree, rebuilt), publish(tree, first))))
    done = installer.install("--verbose", "tiny")
    assert done.returncode == 0
    assert "tiny-1.0-2-py3-none-any.whl" in done.stdout + done.stderr


def test_a_package_without_a_file_is_looked_for_elsewhere(tree, staging, installer, tmp_path):
    tree.write_project(project("tiny"))
    elsewhere = WebTree(tmp_path / "elsewhere")
    files = (publish(elsewhere, make_wheel(staging, "tiny", "1.0")),)
    elsewhere.write_project(project("tiny", files))
    with running_server(elsewhere.root) as other:
        option = "--extra-index-url" if installer.name == "pip" else "--index"
        done = installer.install(option, f"{other.url}simple/", "tiny")
    assert done.returncode == 0, done.stderr
    assert installer.versions() == {"tiny-1.0"}


def test_a_new_version_is_seen_at_once(tree, staging, installer):
    old = publish(tree, make_wheel(staging, "tiny", "1.0"))
    tree.write_project(project("tiny", (old,)))
    installer.install("tiny")
    new = publish(tree, make_wheel(staging, "tiny", "2.0"))
    tree.write_project(project("tiny", (new, old)))
    installer.install("--upgrade", "tiny")
    assert "tiny-2.0" in installer.versions()


@pytest.mark.parametrize("how", ["once", "always"])
def test_the_lines_on_the_home_page_work_as_they_stand(
    tree, staging, installer, server, tmp_path, how
):
    site = WebTree(tree.root, Site(url=server.url))
    site.write_project(project("tiny", (publish(site, make_wheel(staging, "tiny", "1.0")),)))
    site.write_home(Home((), 0))
    page = html5lib.parse((tree.root / "index.html").read_text(), namespaceHTMLElements=False)
    (lines,) = [
        "".join(code.itertext())
        for code in page.iter("pre")
        if code.get("id") == f"{installer.name}-{how}"
    ]
    elsewhere = f"{server.url}elsewhere/simple/"  # where nothing is, in PyPI's place
    installer.environment |= {"PIP_INDEX_URL": elsewhere, "UV_DEFAULT_INDEX": elsewhere}
    if how == "always":
        configuration = tmp_path / "configuration"
        configuration.write_text(lines)
        installer.environment |= {
            "PIP_CONFIG_FILE": str(configuration),
            "UV_CONFIG_FILE": str(configuration),
        }
        done = installer.install("tiny")
    else:
        lines = lines.replace("PACKAGE", "tiny")
        done = installer.run("sh", "-c", f"{lines} --target {shlex.quote(str(installer.target))}")
    assert done.returncode == 0, done.stderr
    assert installer.versions() == {"tiny-1.0"}


def test_pypi_simple_reads_the_whole_index(tree, staging, server):
    wheel = make_wheel(staging, "tiny", "1.0")
    tree.write_project(project("tiny", (publish(tree, wheel),)))
    tree.write_root(["tiny"])
    with PyPISimple(f"{server.url}simple/") as client:
        assert client.get_index_page().projects == ["tiny"]
        (package,) = client.get_project_page("Tiny").packages
        downloaded = staging / "downloaded"
        client.download_package(package, downloaded, verify=True)
        assert downloaded.read_bytes() == wheel.read_bytes()
        assert "Name: tiny" in client.get_package_metadata(package, verify=True)


def test_a_log_is_read_as_text(tree, server):
    tree.place_bytes(gzip.compress(b"built"), tree.log_path(1))
    assert requests.get(f"{server.url}logs/0000/0000/0001.txt.gz", timeout=30).text == "built"
