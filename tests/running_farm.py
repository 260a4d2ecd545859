"""A real farm on this machine, run as a person would run it, with tests/packages as its PyPI."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from piwheels.protocol.status import FROM_STATUS, Farm
from piwheels.transport import Subscriber, Waiter
from tests.pypi_server import SmallPyPI
from tests.sdists import PACKAGES, make_sdist

BIN = Path(sys.executable).parent
PATIENCE = 120.0  # seconds; on a machine that does other things too


@dataclass
class RunningFarm:
    """A farm that runs. url: of its web server."""

    process: subprocess.Popen[str]
    data: Path
    output: Path
    url: str = ""

    @property
    def configuration(self) -> Path:
        return self.data / "piwheels.conf"

    @property
    def index_url(self) -> str:
        return f"{self.url}simple/"

    def text(self) -> str:
        """What the farm has printed."""
        return self.output.read_text(encoding="utf-8")

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, timeout=30)

    def add(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run piw-add."""
        return subprocess.run(
            [BIN / "piw-add", "-c", self.configuration, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def status(self, until: Callable[[Farm], Any]) -> Farm:
        """The first status of the farm for which *until* holds."""
        address = re.search(r"status-queue = (\S+)", self.configuration.read_text())[1]
        deadline = time.monotonic() + PATIENCE
        with Subscriber(address) as subscriber:
            waiter = Waiter(subscriber)
            while time.monotonic() < deadline:
                waiter.wait(1.0)
                if frame := subscriber.hear():
                    farm = FROM_STATUS.decode(frame)
                    if until(farm):
                        return farm
        raise AssertionError(f"the farm never came to it:\n{self.text()}\n{self.logs()}")

    def wait_for_file(self, package: str) -> list[str]:
        """The filenames on the package's simple page, once there are any."""
        deadline = time.monotonic() + PATIENCE
        json = "application/vnd.pypi.simple.v1+json"
        while time.monotonic() < deadline:
            answer = self.get(f"simple/{package}/", Accept=json)
            if answer.ok:
                return [file["filename"] for file in answer.json()["files"]]
            time.sleep(0.2)
        raise AssertionError(f"no page for {package}:\n{self.text()}\n{self.logs()}")

    def logs(self) -> str:
        """What the programs said, the end of it."""
        files = sorted((self.data / "logs").glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text()[-4000:]}" for file in files)

    def pid(self, name: str) -> int:
        """The process of a service, or of a program of the farm, by its newest start."""
        log = "".join(
            (self.data / "logs" / file).read_text() for file in ("farm.log", "master.log")
        )
        return int(re.findall(rf"Started\(name='{name}[^']*', pid=(\d+)\)", log)[-1])

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> int:
        """Press Ctrl+C; return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)


def start(
    data: Path, pypi: str, *words: str, environment: dict[str, str] | None = None
) -> RunningFarm:
    """Start piw-farm and do not wait for it."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "logs").mkdir(exist_ok=True)
    output = data / "output.txt"
    with output.open("w") as file, (data / "logs" / "errors.log").open("w") as errors:
        process = subprocess.Popen(
            [
                *(BIN / "piw-farm", "-v", "--log-file", data / "logs" / "farm.log"),
                *("--data", data, "--port", "0", "--pypi", pypi, *words),
            ],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=errors,
            text=True,
            env=os.environ | {"COLUMNS": "200"} | (environment or {}),
        )
    return RunningFarm(process, data, output)


@contextmanager
def running_farm(
    data: Path, pypi: str, *words: str, environment: dict[str, str] | None = None
) -> Iterator[RunningFarm]:
    """A farm that answers; ended with Ctrl+C."""
    farm = start(data, pypi, *words, environment=environment)
    try:
        wait_until_up(farm)
        yield farm
    finally:
        if farm.process.poll() is None:
            farm.interrupt()


def wait_until_up(farm: RunningFarm) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (found := re.search(r"The farm is up: (\S+)", farm.text())):
        assert farm.process.poll() is None, farm.text() + farm.logs()
        assert time.monotonic() < deadline, farm.text() + farm.logs()
        time.sleep(0.1)
    farm.url = found[1]


def put_packages(index: SmallPyPI, *names: str) -> None:
    """Release packages of tests/packages there; all of them if none is named."""
    for folder in sorted(PACKAGES.iterdir()):
        if folder.is_dir() and (not names or folder.name in names):
            make_sdist(folder, index.folder)
