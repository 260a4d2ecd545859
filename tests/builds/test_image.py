"""What is installed on a slave, as a digest: by real package managers where they are there."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from piwheels.slave.image import Image
from piwheels.slave.interpreter import probe

PACKAGE = """Package: tiny-headers
Version: {version}
Architecture: all
Maintainer: Nobody <nobody@localhost>
Description: Holds nothing
"""


@pytest.fixture(scope="module")
def interpreter():
    return probe(sys.executable)


class Machine:
    """A file system with a Debian in it, as far as dpkg cares."""

    def __init__(self, root, debs):
        self.root = root
        self.debs = debs
        for name in ("etc", "usr/local/bin", "var/lib/dpkg/info", "var/lib/dpkg/updates"):
            (root / name).mkdir(parents=True)
        (root / "etc/os-release").write_text("NAME=Debian\nVERSION_ID=12\n")
        (root / "var/lib/dpkg/status").touch()

    def dpkg(self, *words):
        command = ["dpkg", f"--root={self.root}", "--force-not-root", "--force-bad-path"]
        log = [f"--log={self.root}/dpkg.log"]
        subprocess.run([*command, *log, *words], check=True, capture_output=True)

    def install(self, version="1.0"):
        made = self.debs / f"tiny-headers-{version}"
        (made / "DEBIAN").mkdir(parents=True)
        (made / "DEBIAN/control").write_text(PACKAGE.format(version=version))
        subprocess.run(["dpkg-deb", "--build", "-Znone", made], check=True, capture_output=True)
        self.dpkg("--install", f"{made}.deb")


@pytest.fixture
def machine(tmp_path):
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg is missing")
    (tmp_path / "debs").mkdir()
    return Machine(tmp_path / "root", tmp_path / "debs")


@pytest.fixture
def digest(machine, interpreter):
    """Takes the digest as a slave does that starts now."""
    return lambda: Image(interpreter, machine.root).digest()


def test_the_digest_of_this_machine_is_the_same_at_each_start(interpreter):
    first, second = (Image(interpreter).digest() for _ in range(2))
    assert first == second
    assert len(first) == 32


def test_another_package_makes_another_digest(machine, digest):
    before = digest()
    machine.install()
    assert digest() != before


def test_another_version_of_a_package_makes_another_digest(machine, digest):
    machine.install("1.0")
    before = digest()
    machine.install("1.1")
    assert digest() != before


def test_what_is_removed_again_leaves_the_old_digest(machine, digest):
    before = digest()
    machine.install()
    machine.dpkg("--remove", "tiny-headers")
    assert digest() == before


def test_a_status_that_is_written_anew_with_the_same_packages_changes_nothing(machine, digest):
    machine.install()
    before = digest()
    status = machine.root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("Holds nothing", "Still holds nothing"))
    assert digest() == before


def test_a_slave_that_runs_notices_what_is_installed(machine, interpreter):
    image = Image(interpreter, machine.root)
    before = image.digest()
    assert image.digest() == before
    machine.install()
    assert image.digest() != before


def test_a_tool_that_was_put_there_by_hand_makes_another_digest(machine, digest):
    before = digest()
    (machine.root / "usr/local/bin/cmake").touch()
    assert digest() != before


def test_another_release_of_the_system_makes_another_digest(machine, digest):
    before = digest()
    (machine.root / "etc/os-release").write_text("NAME=Debian\nVERSION_ID=13\n")
    assert digest() != before


def test_another_version_of_the_interpreter_makes_another_digest(machine, interpreter):
    newer = replace(interpreter, version="3.99.1")
    assert Image(newer, machine.root).digest() != Image(interpreter, machine.root).digest()


def test_where_no_package_manager_is_known_the_compiler_answers(tmp_path, interpreter, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    compiler = tools / "cc"
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    digests = set()
    for version in ("12.2.0", "14.1.0"):
        compiler.write_text(f"#!/bin/sh\necho cc {version}\n")
        compiler.chmod(0o755)
        digests.add(Image(interpreter, tmp_path).digest())
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("lib/apk/db/installed", "P:zlib\nV:1.3-r0\n\n", "P:zlib\nV:1.3-r0\n\nP:cmake\nV:3-r0\n\n"),
        ("var/lib/rpm/rpmdb.sqlite", "old", "newer"),
        ("var/lib/pacman/local/zlib-1.3/desc", "zlib", None),
    ],
)
def test_other_package_managers_are_looked_at_too(tmp_path, interpreter, path, old, new):
    database = tmp_path / path
    database.parent.mkdir(parents=True)
    database.write_text(old)
    before = Image(interpreter, tmp_path).digest()
    if new is None:
        (database.parents[1] / "cmake-3").mkdir()
    else:
        database.write_text(new)
    assert Image(interpreter, tmp_path).digest() != before
