"""A slave's builder in a process of its own, as root and as an ordinary user."""

import hashlib
import http.server
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.sdists import PACKAGES, make_sdist

ROOT = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
SECONDS = 120


@dataclass
class User:
    """Who the slave runs as. words: before a command. python: runs slave and builds."""

    name: str
    words: list[str]
    python: str
    environment: dict[str, str]

    @property
    def uid(self) -> int:
        return pwd.getpwnam(self.name).pw_uid


def own_user() -> User:
    return User(pwd.getpwuid(os.geteuid()).pw_name, [], sys.executable, dict(os.environ))


def ordinary_user() -> User:
    """Nobody, who cannot read root's home, so runs the system's interpreter."""
    setpriv = shutil.which("setpriv") or pytest.skip("setpriv is missing")
    checks = [SYSTEM_PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run(checks, check=False).returncode:
        pytest.skip("the system has no Python 3.11 or later, which an ordinary user can run")
    words = [setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    kept = ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environment |= {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join((str(ROOT), *packages))}
    return User("nobody", words, SYSTEM_PYTHON, environment)


USERS = ["own", "ordinary"] if os.geteuid() == 0 else ["own"]  # only root can become others


@pytest.fixture(scope="session", params=USERS)
def user(request) -> User:
    return own_user() if request.param == "own" else ordinary_user()


class Server(http.server.ThreadingHTTPServer):
    """Serves a directory; the first *failures* requests are answered with 503."""

    failures = 0
    requests = 0


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        if self.server.requests <= self.server.failures:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    with serving(tmp_path) as served:
        yield served


@pytest.fixture(scope="session")
def slave_directory(user) -> Iterator[Path]:
    """Kept for all tests of one user, so that requirements are fetched once."""
    with tempfile.TemporaryDirectory(prefix="piwheels-slave-") as name:
        os.chown(name, user.uid, -1)
        os.chmod(name, 0o711)
        yield Path(name)


@dataclass
class Slave:
    """Builds the packages in tests/packages; directory is removed by its owner."""

    user: User
    directory: Path
    server: Server
    sdists: Path
    spools: Path
    changes: dict = field(default_factory=dict)

    def order(self, package, **fields) -> dict:
        sdist = make_sdist(PACKAGES / package, self.sdists)
        content = sdist.read_bytes()
        order = {
            "build_id": 1,
            "package": package,
            "version": "1.0",
            "sdist": {
                "filename": sdist.name,
                "url": f"http://127.0.0.1:{self.server.server_port}/{sdist.name}",
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
            },
            "limits": {"seconds": SECONDS, "silence": SECONDS, "output": 1_000_000},
            "index_urls": [],
        }
        sdist_fields = order["sdist"] | fields.pop("sdist", {})
        limits = order["limits"] | fields.pop("limits", {})
        return order | fields | {"sdist": sdist_fields, "limits": limits}

    def start(self, order, python=None, level=None) -> "Build":
        spool = Path(tempfile.mkdtemp(dir=self.spools))
        os.chown(spool, self.user.uid, -1)
        job = {
            "directory": str(self.directory),
            "spool": str(spool),
            "python": str(python or self.user.python),
            "level": level,
            "order": order,
        }
        process = subprocess.Popen(
            [*self.user.words, self.user.python, "-B", "-m", "tests.builds.one_build"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self.user.environment,
        )
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        process.stdin = None
        return Build(process, spool)

    def build(self, package, python=None, level=None, **fields) -> "Result":
        result = self.start(self.order(package, **fields), python, level).finish()
        assert list((self.directory / "builds").iterdir()) == []
        return result


@dataclass
class Build:
    process: subprocess.Popen
    spool: Path

    def finish(self) -> "Result":
        output, _ = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0
        return Result(self.spool, json.loads(output))


@dataclass
class Result:
    spool: Path
    fields: dict

    def __getattr__(self, name):
        return self.fields[name]

    @property
    def kind(self):
        return self.failure and self.failure["kind"]

    @property
    def wheel(self) -> Path:
        (wheel,) = self.wheels
        return Path(wheel)


@contextmanager
def slave_of(user: User, directory: Path, server: Server, sdists: Path) -> Iterator[Slave]:
    with tempfile.TemporaryDirectory(prefix="piwheels-spools-") as spools:
        os.chmod(spools, 0o711)
        yield Slave(user, directory, server, sdists, Path(spools))


@pytest.fixture
def slave(user, slave_directory, server, tmp_path) -> Iterator[Slave]:
    with slave_of(user, slave_directory, server, tmp_path) as slave:
        yield slave
