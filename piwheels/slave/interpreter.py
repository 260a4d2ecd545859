"""The interpreter that wheels are built for, asked what it is."""

import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packaging
from packaging.tags import compatible_tags, cpython_tags, platform_tags

from piwheels.model.errors import PiwheelsError
from piwheels.model.targets import TargetOffer
from piwheels.rules.failures import one_line

OLDEST = (3, 8)
SECONDS = 60

# Runs in the target interpreter, with the slave's own packaging last on its path.
QUESTIONS = """
import json, os, platform, sys, sysconfig
executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
answer = {
    "executable": executable,
    "version": platform.python_version(),
    "implementation": platform.python_implementation(),
    "places": [sys.base_prefix, sys.base_exec_prefix, os.path.dirname(executable),
               sysconfig.get_path("stdlib"),
               sysconfig.get_path("include")],
    "tags": [],
}
sys.path.append(sys.argv[1])
if sys.version_info >= (3, 9):
    from packaging.tags import sys_tags
    answer["tags"] = [str(tag) for tag in sys_tags()]
print(json.dumps(answer))
"""


class NoInterpreter(PiwheelsError):
    """The interpreter to build for is not there or does not run. The operator's to mend."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter on this machine.

    python: real path of its executable, outside of any virtual environment.
    version: e.g. 3.11.2. implementation: e.g. CPython. tags: best first.
    places: the directories it needs, none inside another.
    """

    python: Path
    version: str
    implementation: str
    tags: tuple[str, ...]
    places: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The target's name: cp311-linux_armv7l."""
        abi, system = self.tags[0].split("-")[1:]
        # Among linux_armv8l and linux_armv7l, builds on 32-bit systems get the last.
        for tag in self.tags:
            _, tag_abi, tag_platform = tag.split("-")
            if tag_abi == abi and tag_platform.startswith("linux_"):
                system = tag_platform
        return f"{abi}-{system}"

    @property
    def offer(self) -> TargetOffer:
        """The target this interpreter builds for, as a slave describes it to its master."""
        short = ".".join(map(str, _short_version(self.version)))
        label = f"{self.implementation} {short} on {system_label()}"
        return TargetOffer(self.name, label, self.version, self.tags)


def probe(python: str | Path) -> Interpreter:
    """Ask the interpreter at path *python*, or of that name on PATH, what it is.

    Raise NoInterpreter.
    """
    found = shutil.which(os.fspath(python))
    if found is None:
        raise NoInterpreter(
            f"there is no interpreter {python}: install it, or name another by its path"
        )
    answer = _ask(os.path.abspath(found))
    version = _short_version(answer["version"])
    if version < OLDEST:
        raise NoInterpreter(
            f"{python} is Python {answer['version']}; wheels are built for"
            f" {'.'.join(map(str, OLDEST))} and later"
        )
    return Interpreter(
        python=Path(answer["executable"]),
        version=answer["version"],
        implementation=answer["implementation"],
        tags=tuple(answer["tags"]) or _tags_of_old(version),
        places=_outermost({Path(place).resolve() for place in answer["places"] if place}),
    )


def system_label() -> str:
    """The name of the system this machine runs: Debian 12."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system()
    return f"{release['NAME'].split()[0]} {release.get('VERSION_ID', '')}".strip()


def _short_version(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def _tags_of_old(version: tuple[int, ...]) -> tuple[str, ...]:
    """The tags of a CPython that packaging itself no longer runs on, on this machine."""
    interpreter = "cp" + "".join(map(str, version))
    platforms = list(platform_tags())
    tags = [
        *cpython_tags(version, [interpreter], platforms),
        *compatible_tags(version, interpreter, platforms),
    ]
    return tuple(map(str, tags))


def _ask(python: str) -> dict[str, Any]:
    own_packages = Path(packaging.__file__).parent.parent
    command = [python, "-I", "-c", QUESTIONS, str(own_packages)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=True, cwd="/"
        )
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"exit status {error.returncode}"]
        raise NoInterpreter(f"{python} does not work: {one_line(last[0])}") from error
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise NoInterpreter(f"{python} does not run: {one_line(str(error))}") from error
    return answer


def _outermost(places: set[Path]) -> tuple[Path, ...]:
    """*places* that exist, without those inside another."""
    there = sorted(place for place in places if place.exists())
    return tuple(p for p in there if not any(q != p and p.is_relative_to(q) for q in there))
