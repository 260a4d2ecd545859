"""What an unpacked sdist says of how it wants to be built: PEP 517, PEP 518, core metadata."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from piwheels.model.builds import FailureClass
from piwheels.slave.failed import failed

MOST_BYTES = 4 * 1024**2

LEGACY_REQUIRES = ("setuptools>=40.8.0",)
LEGACY_BACKEND = "setuptools.build_meta:__legacy__"


@dataclass(frozen=True, slots=True)
class BuildSystem:
    """The [build-system] of a project, or what stands in for it. requires: valid requirements."""

    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...] = ()


def read_build_system(source: Path) -> BuildSystem:
    """Read pyproject.toml in *source*, before any code of it ran. Raise BuildFailed: bad sdist."""
    path = source / "pyproject.toml"
    if not path.is_file():
        if not (source / "setup.py").is_file():
            raise failed(FailureClass.BAD_SDIST, "it has neither pyproject.toml nor setup.py")
        return BuildSystem(LEGACY_REQUIRES, LEGACY_BACKEND)
    table = _read_toml(path).get("build-system")
    if table is None:
        return BuildSystem(LEGACY_REQUIRES, LEGACY_BACKEND)
    if not isinstance(table, dict):
        raise _bad_table("it is no table")
    backend = table.get("build-backend", LEGACY_BACKEND)
    if not isinstance(backend, str):
        raise _bad_table("build-backend is no string")
    return BuildSystem(
        check_requirements(_strings(table, "requires")), backend, _strings(table, "backend-path")
    )


def check_requirements(texts: object) -> tuple[str, ...]:
    """Requirements as packaging writes them, so that nothing else can hide in them.

    Raise BuildFailed if *texts* is no list of requirements or one names an address, which
    would make the slave itself fetch from wherever the package says.
    """
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise failed(FailureClass.SOURCE_ERROR, "its build requirements are no list of strings")
    checked = []
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise failed(
                FailureClass.SOURCE_ERROR, f"its build requirement {text!r} is not valid: {error}"
            ) from error
        if requirement.url:
            raise failed(
                FailureClass.DEPENDENCY_UNAVAILABLE,
                f"it requires {requirement.name} from an address; builds get theirs from indexes",
                f"publish {requirement.name} on the farm's index, and require it by version",
            )
        checked.append(str(requirement))
    return tuple(checked)


def check_python(source: Path, python: str) -> None:
    """Raise BuildFailed if the metadata in *source* excludes Python version *python*."""
    path = source / "PKG-INFO"
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return
    wanted = parse_email(path.read_bytes())[0].get("requires_python", "")
    try:
        fits = SpecifierSet(wanted).contains(python, prereleases=True)
    except InvalidSpecifier:
        return  # installers pass over it as well
    if not fits:
        raise failed(FailureClass.UNSUPPORTED, f"it requires Python {wanted}; this is {python}")


def _read_toml(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MOST_BYTES:
        raise failed(FailureClass.BAD_SDIST, "its pyproject.toml is too large")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise failed(
            FailureClass.BAD_SDIST, f"its pyproject.toml cannot be read: {error}"
        ) from error


def _strings(table: dict[str, Any], key: str) -> tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise _bad_table(f"{key} is no list of strings")
    return tuple(found)


def _bad_table(cause: str) -> Exception:
    return failed(FailureClass.BAD_SDIST, f"its [build-system] is not valid: {cause}")
