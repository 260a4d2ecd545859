"""Build requirements as environments, made once for each resolved set and then only read.

Only wheels are installed: an sdist among the requirements would run a stranger's code here,
with network and outside the sandbox. The farm's own index is where such wheels come from.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from uv import find_uv_bin

from piwheels.model.builds import FailureClass
from piwheels.rules.era import Cutoff, cutoffs
from piwheels.rules.failures import one_line
from piwheels.rules.unsatisfied import missing_package
from piwheels.slave.clock import Clock
from piwheels.slave.failed import BuildFailed, failed
from piwheels.slave.interpreter import Interpreter

LAYOUT = 1  # counted up when environments are made in another way, so that old ones are not used
KEPT = 40  # environments, the most recently used
FRESH_SECONDS = 600.0  # how long an index may be taken to say what it said; as installers do
TICK = 0.2

# The slave's own environment must not lead uv to another interpreter.
MISLEADING = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT")

UNSATISFIABLE = 1  # uv's exit status where indexes answered but no choice fits


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment at *path*. packages: name to version."""

    path: Path
    packages: dict[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """What a build needs. requirements: valid and without addresses.

    index_urls: indexes beside the default one. tools_before: requirements are those of that
    moment, as far as there are wheels (see piwheels.rules.era); None: the newest.
    """

    requirements: tuple[str, ...]
    index_urls: tuple[str, ...] = ()
    tools_before: datetime | None = None


@dataclass
class Environments:
    """The environments below *directory* for *interpreter*; slaves may share the directory.

    protected: whether builds cannot write to them. If they can, their files are copies, lest
    one build edits what uv's cache will hand to the next.
    """

    directory: Path
    interpreter: Interpreter
    protected: bool
    _resolved: dict[Request, tuple[float, tuple[str, ...]]] = field(default_factory=dict)

    @contextmanager
    def provide(self, request: Request, clock: Clock) -> Iterator[Environment]:
        """An environment that fulfils *request*, not removed while the context lasts.

        Raise BuildFailed: build dependency unavailable, index unavailable.
        """
        pins = self._resolve(request, clock) if request.requirements else ()
        key = self._key(pins)
        path = self.directory / key
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        with open(self.directory / f"{key}.lock", "a") as lock:
            self._hold(lock, path, pins, request, clock)
            os.utime(path)
            yield Environment(path, dict(pin.split("==", 1) for pin in pins))
        self._sweep()

    def _resolve(self, request: Request, clock: Clock) -> tuple[str, ...]:
        """The name==version of every wheel to install."""
        when, pins = self._resolved.get(request, (0.0, ()))
        if pins and time.monotonic() - when < FRESH_SECONDS:
            return pins
        choices = cutoffs(request.tools_before, self.interpreter.version)
        pins = self._choose(request, choices, clock)
        self._resolved = {
            known: entry
            for known, entry in self._resolved.items()
            if time.monotonic() - entry[0] < FRESH_SECONDS
        }
        self._resolved[request] = (time.monotonic(), pins)
        return pins

    def _choose(self, request: Request, choices: Sequence[Cutoff], clock: Clock) -> tuple[str, ...]:
        """The same by the first of *choices* under which there is one."""
        cutoff, *wider = choices
        words = ["pip", "compile", "-", "--python", str(self.interpreter.python)]
        words += ["--no-header", "--no-annotate", *_indexes(request), *_limits(cutoff)]
        try:
            output = self._uv(words, request.requirements, clock)
        except BuildFailed as error:
            if wider and error.failure.kind is FailureClass.DEPENDENCY_UNAVAILABLE:
                return self._choose(request, wider, clock)
            raise
        return tuple(sorted(line.strip() for line in output.splitlines() if "==" in line))

    def _key(self, pins: tuple[str, ...]) -> str:
        interpreter = f"{self.interpreter.python} {self.interpreter.version}"
        kind = f"{LAYOUT} {self.protected}"
        named = "\n".join((kind, interpreter, self.interpreter.tags[0], *pins))
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def _hold(
        self, lock: IO[str], path: Path, pins: Sequence[str], request: Request, clock: Clock
    ) -> None:
        """Return with a shared lock on an environment that is there."""
        while True:
            _lock(lock, fcntl.LOCK_SH, clock)
            if path.exists():
                return
            _lock(lock, fcntl.LOCK_EX, clock)
            if not path.exists():
                self._make(path, pins, request, clock)

    def _make(self, path: Path, pins: Sequence[str], request: Request, clock: Clock) -> None:
        """Make the environment beside *path*, then rename it: it is there whole or not at all."""
        new = path.with_name(f".{path.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        # Relocatable: the sandbox shows it under another path.
        words = ["venv", "--relocatable", "--python", str(self.interpreter.python), str(new)]
        self._uv(words, (), clock)
        if pins:
            words = ["pip", "install", "--python", str(new / "bin/python"), "--no-deps"]
            words += ["--link-mode", "hardlink" if self.protected else "copy"]
            # Nobody may write to it later, so its bytecode is written now.
            words += ["--compile-bytecode", "-r", "-", *_indexes(request)]
            self._uv(words, pins, clock)
        new.rename(path)

    def _uv(self, words: Sequence[str], requirements: Sequence[str], clock: Clock) -> str:
        """Run uv with *requirements* as its input; return its output."""
        command = [find_uv_bin(), *words, "--color", "never", "--no-progress"]
        command += ["--cache-dir", str(self.directory / "uv"), "--no-python-downloads"]
        environment = {k: v for k, v in os.environ.items() if k not in MISLEADING}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd="/",  # it reads configuration from where it stands, so not from a stranger's sdist
            umask=0o022,  # builds run as others and must be able to read it
        )
        with process:
            output, errors = _await(process, "\n".join(requirements), clock)
        if process.returncode:
            raise _explain(process.returncode, errors, requirements)
        return output

    def _sweep(self) -> None:
        """Remove the environments that nobody used for longest, save those in use."""
        found = sorted(
            (path for path in self.directory.iterdir() if re.fullmatch(r"[0-9a-f]{32}", path.name)),
            key=_last_use,
            reverse=True,
        )
        for path in found[KEPT:]:
            with open(path.with_name(f"{path.name}.lock"), "a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(path, ignore_errors=True)


def _indexes(request: Request) -> list[str]:
    """Options for the indexes; the best version of any counts, or a lagging one would win."""
    words = ["--only-binary", ":all:", "--index-strategy", "unsafe-best-match"]
    for url in request.index_urls:
        words += ["--index", url]
    return words


def _limits(cutoff: Cutoff) -> list[str]:
    """Options for what is too new to count."""
    words = ["--exclude-newer", cutoff.before.isoformat()] if cutoff.before else []
    for tool, before in cutoff.tools.items():
        words += ["--exclude-newer-package", f"{tool}={before.isoformat()}"]
    return words


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another slave swept it
        return 0.0


def _lock(lock: IO[str], kind: int, clock: Clock) -> None:
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            clock.wait(TICK)


def _await(process: subprocess.Popen[str], text: str, clock: Clock) -> tuple[str, str]:
    """The output of *process*, given *text*. It is killed if the build ends meanwhile."""
    given: str | None = text
    while True:
        try:
            return process.communicate(given, timeout=TICK)
        except subprocess.TimeoutExpired:
            given = None
            try:
                clock.check()
            except Exception:
                process.kill()
                raise


def _explain(status: int, errors: str, requirements: Sequence[str]) -> BuildFailed:
    """Whose fault it is that uv failed."""
    lines = [re.sub(r"^\W*(?:error|cause)\b:?\s*", "", line) for line in errors.splitlines()]
    said = [line for line in lines if line.strip()]
    if status == UNSATISFIABLE:
        return _explain_lack(" ".join(said), requirements)
    kind = FailureClass.SANDBOX
    if re.search(r"(?i)failed to fetch|request failed|error sending request|status code", errors):
        kind = FailureClass.INDEX_UNAVAILABLE
    if re.search(r"(?i)no space left on device", errors):
        kind = FailureClass.DISK_FULL
    return failed(kind, "; ".join(map(one_line, said)) or f"uv ended with status {status}")


def _explain_lack(said: str, requirements: Sequence[str]) -> BuildFailed:
    """That no choice fits, and what uv says of why: "Because …"."""
    reason = said[max(0, said.find("Because ")) :].partition(" hint: ")[0]
    missing = missing_package(reason)
    fix = f"publish a release of {missing} that fits" if missing else ""
    if missing and "wheel" in reason:
        fix = f"have the farm build {missing} for this target: piw-add {missing}"
    return failed(
        FailureClass.DEPENDENCY_UNAVAILABLE,
        f"the build requirement {missing or ', '.join(requirements)} cannot be had as a wheel:"
        f" {reason}",
        fix,
        missing,
    )
