"""Runs a command to its end or to one of its limits."""

import fcntl
import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from piwheels.model.builds import FailureClass, Limits
from piwheels.slave.buildlog import BuildLog
from piwheels.slave.clock import Clock
from piwheels.slave.failed import failed

TICK = 0.5  # seconds between looks at the clock; output and the end are noticed at once
DISK_TICK = 5.0
CHUNK = 64 * 1024
LONGEST_REPORT = 4096
DRAIN_SECONDS = 5.0  # after everything was killed


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command came to. status: as subprocess has it, None if it was never reported.

    cpu_seconds: of all its processes that ended. peak_memory: bytes, of the largest one.
    """

    status: int | None
    cpu_seconds: float = 0.0
    peak_memory: int = 0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a command that reports to the file descriptor in place of {report}.

    kill: ends the process it is given and everything that came of it.
    written: directories whose size counts against the disk limit.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    kill: Callable[[int], None]
    written: tuple[Path, ...] = ()


def run(launch: Launch, limits: Limits, clock: Clock, log: BuildLog) -> Usage:
    """Run to the end. Raise BuildFailed or Cancelled if a limit ends it; nothing is left then."""
    ours, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            [word.replace("{report}", str(theirs)) for word in launch.command],
            env=dict(launch.environment),
            cwd=launch.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(theirs,),
            start_new_session=True,
            umask=0o022,
        )
    except OSError as error:
        os.close(ours)
        raise failed(FailureClass.SANDBOX, f"the sandbox does not start: {error}") from error
    finally:
        os.close(theirs)
    with process, os.fdopen(ours, "rb", buffering=0) as report:
        assert process.stdout is not None
        watch = _Watch(process.stdout.fileno(), report.fileno(), limits, clock, log)
        try:
            watch.until_report(launch.written)
        finally:
            launch.kill(process.pid)
            watch.drain()
            process.kill()
    return watch.usage()


class _Watch:
    """Reads a command's output and report while its limits last."""

    def __init__(self, output: int, report: int, limits: Limits, clock: Clock, log: BuildLog):
        self.output = output
        self.report = report
        self.limits = limits
        self.clock = clock
        self.log = log
        self.reported = b""
        self.heard = self.disk_seen = time.monotonic()
        self.selector = selectors.DefaultSelector()
        for descriptor in (output, report):
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
            self.selector.register(descriptor, selectors.EVENT_READ)

    def until_report(self, written: tuple[Path, ...]) -> None:
        """Follow the command until it reports or everything of it has ended."""
        with self.selector:
            while b"\n" not in self.reported and self.selector.get_map():
                ready = {key.fd for key, _ in self.selector.select(TICK)}
                if self.output in ready:
                    self._read_output()
                if self.report in ready and not self._read_report():
                    return
                self.clock.check()
                self._check_silence()
                self._check_disk(written)

    def drain(self) -> None:
        """Take what killed processes left in the pipe."""
        end = time.monotonic() + DRAIN_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0 and selector.select(left):
                chunk = os.read(self.output, CHUNK)
                if not chunk or not self.log.output(chunk):
                    return

    def usage(self) -> Usage:
        """What was reported. It may have been forged: it decides nothing but what is shown."""
        try:
            answer = json.loads(self.reported)
            return Usage(
                int(answer["status"]),
                min(max(float(answer["cpu_seconds"]), 0.0), 1e9),
                min(max(int(answer["peak_memory"]), 0), 2**53),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return Usage(None)

    def _read_output(self) -> None:
        chunk = os.read(self.output, CHUNK)
        if not chunk:  # a daemon may well have closed it; the report tells the end
            self.selector.unregister(self.output)
            return
        self.heard = time.monotonic()
        if not self.log.output(chunk):
            raise failed(
                FailureClass.TOO_MUCH_OUTPUT,
                f"the build printed more than the {self.limits.output} bytes it was allowed",
            )

    def _read_report(self) -> bool:
        chunk = os.read(self.report, LONGEST_REPORT)
        self.reported = (self.reported + chunk)[:LONGEST_REPORT]
        return bool(chunk)

    def _check_silence(self) -> None:
        if self.limits.silence and time.monotonic() - self.heard > self.limits.silence:
            raise failed(
                FailureClass.SILENT,
                f"the build printed nothing for {self.limits.silence:g} seconds",
                "allow it more time, or build it on a faster slave",
            )

    def _check_disk(self, written: tuple[Path, ...]) -> None:
        if not self.limits.disk or time.monotonic() - self.disk_seen < DISK_TICK:
            return
        self.disk_seen = time.monotonic()
        if sum(map(_bytes_below, written)) > self.limits.disk:
            raise failed(
                FailureClass.TOO_MUCH_OUTPUT,
                f"the build wrote more than the {self.limits.disk} bytes it was allowed",
            )


def _bytes_below(directory: Path) -> int:
    """What the files below *directory* occupy now; what cannot be seen does not count."""
    total = 0
    for parent, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except OSError:
                continue
    return total
