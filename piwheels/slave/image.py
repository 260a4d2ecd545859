"""What is installed on the slave that builds could need, as one digest.

Two slaves with one digest fail alike for want of a header or tool; a digest that was not seen
before is another chance for what failed so.
"""

import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from piwheels.slave.interpreter import Interpreter

DIGITS = 32
SECONDS = 10

Names = Iterable[str]
Read = Callable[[Path], Names]

# They begin with plain text, which is found quickly: there may be 3,000 packages to look at.
INSTALLED = re.compile(rb"\nStatus: [^\n]* installed\n")
ARCHITECTURE = re.compile(rb"\nArchitecture: ([^\n]*)")
VERSION = re.compile(rb"\nVersion: ([^\n]*)")


def _debian(status: Path) -> Names:
    """Names, architectures and versions of what dpkg holds for installed."""
    for stanza in (b"\n\n" + status.read_bytes()).split(b"\n\nPackage: ")[1:]:
        if INSTALLED.search(stanza):
            found = [stanza.partition(b"\n")[0]]
            found += [
                match[1] for match in (ARCHITECTURE.search(stanza), VERSION.search(stanza)) if match
            ]
            yield b" ".join(found).decode(errors="replace")


def _alpine(installed: Path) -> Names:
    """Names and versions of apk's packages."""
    for stanza in installed.read_text(errors="replace").split("\n\n"):
        yield " ".join(line for line in stanza.splitlines() if line.startswith(("P:", "V:", "A:")))


def _state(path: Path) -> Names:
    """When and at what size *path* was last written: instead of what is binary and large."""
    found = path.stat()
    yield f"{path} {found.st_size} {found.st_mtime_ns}"


def _listing(directory: Path) -> Names:
    """What lies in *directory*, by name."""
    return (f"{directory} {path.name}" for path in directory.iterdir())


def _content(path: Path) -> Names:
    return path.read_text(errors="replace").splitlines()


PACKAGES: dict[str, Read] = {
    "var/lib/dpkg/status": _debian,
    "lib/apk/db/installed": _alpine,
    "var/lib/pacman/local": _listing,  # a folder for each package, named after its version
    "var/lib/rpm/rpmdb.sqlite": _state,
    "usr/lib/sysimage/rpm/rpmdb.sqlite": _state,
    "var/lib/rpm/Packages": _state,
}

# What operators install themselves. Builds see all of it.
BY_HAND: dict[str, Read] = dict.fromkeys(
    (
        "usr/local/bin",
        "usr/local/include",
        "usr/local/lib",
        "usr/local/lib/pkgconfig",
        "usr/local/share/pkgconfig",
    ),
    _listing,
)

SYSTEM: dict[str, Read] = {"etc/os-release": _content}

# Asked where no package manager is known.
QUESTIONS = (("cc", "--version"), ("c++", "--version"), ("pkg-config", "--list-all"))


@dataclass
class Image:
    """The image of this machine for *interpreter*. root: of the file system, for another one."""

    interpreter: Interpreter
    root: Path = Path("/")
    _seen: tuple[object, ...] | None = None
    _digest: str = ""

    def digest(self) -> str:
        """The digest as of now. Costs a few calls of stat() where nothing was touched."""
        seen = tuple(map(_stamp, self._places()))
        if seen != self._seen:
            self._digest = self._take()
            self._seen = seen  # from before reading: what changed meanwhile is read once more
        return self._digest

    def _places(self) -> list[Path]:
        return [self.root / name for name in (*PACKAGES, *BY_HAND, *SYSTEM)]

    def _take(self) -> str:
        digest = hashlib.sha256()
        for line in self._lines():
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()[:DIGITS]

    def _lines(self) -> Iterator[str]:
        yield f"{self.interpreter.implementation} {self.interpreter.version}"
        yield platform.machine()
        packages = self._read(PACKAGES)
        yield from packages or _answers()
        yield from self._read({**BY_HAND, **SYSTEM})

    def _read(self, places: dict[str, Read]) -> list[str]:
        """What *places* that are there hold, in an order that does not depend on the disk's."""
        lines: list[str] = []
        for name, read in places.items():
            try:
                lines += sorted(read(self.root / name))
            except OSError:  # not there, or not for everyone to read
                continue
        return lines


def _stamp(path: Path) -> tuple[int, ...]:
    """Differs if *path* was written to since."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _answers() -> Iterator[str]:
    """What the compiler and pkg-config say of themselves and of what they know."""
    for command in QUESTIONS:
        if shutil.which(command[0]):
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=SECONDS, check=False
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            yield from sorted(done.stdout.splitlines())
