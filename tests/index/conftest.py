import gzip
import hashlib
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pytest
from hypothesis import settings

from piwheels.index.pages import Home, PackageCounts
from piwheels.index.writer import WebTree
from piwheels.model.published import Project, PublishedFile, Release, Standing, log_path

settings.register_profile("untimed", deadline=None)  # machines differ; rules do not
settings.load_profile("untimed")

NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)

SERVER = """
import sys
from pathlib import Path
from piwheels.farm.web import listen, serve
listener = listen("127.0.0.1", int(sys.argv[2]))
serve(Path(sys.argv[1]), listener, lambda: print(listener.getsockname()[1], flush=True))
"""


def make_wheel(folder: Path, name: str, version: str, requires_python: str = "") -> Path:
    """A tiny valid wheel of package *name* with one module in it."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if requires_python:
        metadata += f"Requires-Python: {requires_python}\n"
    contents = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in contents.items()
    )
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        for path, text in {**contents, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return wheel


def _digest(text: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def metadata_of(wheel: Path) -> bytes:
    with ZipFile(wheel) as archive:
        return archive.read("-".join(wheel.name.split("-")[:2]) + ".dist-info/METADATA")


def publish(
    tree: WebTree, wheel: Path, requires_python: str = "", yanked: str | None = None
) -> PublishedFile:
    """Place *wheel* and its sidecar in *tree*, and say what the page has to say of it."""
    package, version = wheel.name.split("-")[:2]
    package = package.replace("_", "-")
    metadata = metadata_of(wheel)
    tree.place(wheel, tree.wheel_path(package, wheel.name))
    tree.place_bytes(metadata, tree.sidecar_path(package, wheel.name))
    return PublishedFile(
        wheel.name,
        version,
        wheel.stat().st_size,
        hashlib.sha256(wheel.read_bytes()).hexdigest(),
        hashlib.sha256(metadata).hexdigest(),
        requires_python,
        NOON,
        yanked,
    )


def project(
    package: str,
    files: tuple[PublishedFile, ...] = (),
    releases: tuple[Release, ...] = (),
    summary: str = "",
) -> Project:
    return Project(package, package, summary, files, releases)


@dataclass
class Server:
    """A running web server over a tree."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def running_server(root: Path, port: int = 0) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(root), str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}/", process)
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture
def tree(tmp_path: Path) -> WebTree:
    root = tmp_path / "www"
    root.mkdir()
    return WebTree(root)


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def server(tree: WebTree) -> Iterator[Server]:
    """A server over the test's own tree."""
    with running_server(tree.root) as running:
        yield running


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over a tree with a bit of everything; tests only read it."""
    folder = tmp_path_factory.mktemp("site")
    tree = WebTree(folder)
    build_id = 12345
    tree.place_bytes(gzip.compress("läuft\n".encode() * 1000), tree.log_path(build_id))
    wheel = make_wheel(tmp_path_factory.mktemp("wheels"), "tiny_thing", "1.0", ">=3.8")
    files = (publish(tree, wheel, ">=3.8"),)
    release = Release(
        "1.0", NOON, None, "", (Standing("cp311-any", "done", wheel.name, log_path(build_id)),)
    )
    tree.write_project(project("tiny-thing", files, (release,), "A thing"))
    tree.write_project(project("not-built"))
    tree.write_root(["tiny-thing"])
    tree.write_home(Home((PackageCounts("tiny-thing", "A thing", {"done": 1}),), 1))
    tree.install_static()
    (folder / ".secret").write_text("secret")
    (folder / "simple" / "tiny-thing" / ".piwheels-x.tmp").write_text("half a page")
    (folder.parent / "outside.html").write_text("secret")
    with running_server(folder) as server:
        yield server
