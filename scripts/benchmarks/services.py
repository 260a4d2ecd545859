"""Services of a master, each in a process of its own, as `piw-master --service NAME` runs them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.benchmarks.result import BenchmarkFailed

MASTER = Path(sys.executable).parent / "piw-master"
START_SECONDS = 30.0
END_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs. log: what it has printed."""

    name: str
    pid: int
    log: Path


@contextmanager
def running_service(
    name: str, dsn: str, folder: Path, options: Sequence[str] = (), port: int | None = None
) -> Iterator[Service]:
    """Run a service of the master; *folder* takes its log and its web tree.

    port: it is ready once it listens there. Raise BenchmarkFailed if it ends by itself.
    """
    log = folder / f"{name}.log"
    words = [str(MASTER), "--service", name, "--output-path", str(folder / "www"), "--quiet"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*words, *options],
            env={**os.environ, "PIW_DSN": dsn},  # a command line could be read by anybody
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        if port is not None:
            _wait_until_it_listens(process, port, log)
        try:
            yield Service(name, process.pid, log)
        finally:  # whatever else went wrong, this is why
            if process.poll() is not None:
                last_words = log.read_text(encoding="utf-8")[-2000:]
                raise BenchmarkFailed(f"the {name} ended: {last_words}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def cpu_seconds(pid: int, with_children: bool = False) -> float:
    """What a process has used so far; with_children: and all below it, ended ones too."""
    process = psutil.Process(pid)
    own = process.cpu_times()
    used: float = own.user + own.system
    if with_children:
        used += own.children_user + own.children_system
        used += sum(_used(child) for child in process.children(recursive=True))
    return used


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # its parent counts it from now on
    return float(times.user + times.system)


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise BenchmarkFailed(f"it does not start: {log.read_text(encoding='utf-8')[-2000:]}")
