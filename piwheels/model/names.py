"""Package and file names: PEP 503, PEP 427, PEP 625."""

import re
from dataclasses import dataclass
from typing import TypeGuard

from packaging.tags import Tag
from packaging.utils import (
    InvalidName,
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from piwheels.model.errors import BadName

LONGEST_NAME = 255  # the file systems' limit; the longest name on PyPI has 188 characters


def normalize(name: str) -> str:
    """Return the normalized form of a project *name* (PEP 503).

    Raise BadName if it is no valid name.
    """
    if len(name) > LONGEST_NAME:
        raise BadName(f"the package name {name[:40]}… is longer than {LONGEST_NAME} characters")
    try:
        return canonicalize_name(name, validate=True)
    except InvalidName as error:
        raise BadName(
            f"{name!r} is not a package name: use letters, digits, '-', '_' and '.'"
        ) from error


def is_name(value: object) -> TypeGuard[str]:
    """Whether *value* is a valid project name, in any spelling."""
    if not isinstance(value, str):
        return False
    try:
        normalize(value)
    except BadName:
        return False
    return True


@dataclass(frozen=True, slots=True)
class WheelName:
    """The parts of a wheel's filename; build is () where there is no build tag.

    Source: binary distribution format, file name convention.
    """

    filename: str
    package: str
    version: Version
    build: tuple[int, str] | tuple[()]
    tags: frozenset[Tag]

    @property
    def tag_names(self) -> frozenset[str]:
        """The tags as text, compressed tag sets expanded: {'cp311-cp311-linux_armv7l'}."""
        return frozenset(map(str, self.tags))

    @property
    def is_pure(self) -> bool:
        """Whether it installs on every platform."""
        return all(tag.abi == "none" and tag.platform == "any" for tag in self.tags)


def parse_wheel_name(filename: str) -> WheelName:
    """Split a bare wheel *filename* into its parts. Raise BadName."""
    if len(filename) > LONGEST_NAME or re.search(r"[/\\\x00-\x1f\x7f]", filename):
        raise BadName(f"{filename[:60]!r} cannot be a file name")
    try:
        package, version, build, tags = parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise BadName(f"{filename!r} is not a wheel's name: {error}") from error
    return WheelName(filename, package, version, build, tags)


def parse_sdist_name(filename: str) -> tuple[str, Version]:
    """Split a bare sdist *filename* into package and version (PEP 625). Raise BadName."""
    try:
        package, version = parse_sdist_filename(filename)
    except (InvalidSdistFilename, InvalidVersion) as error:
        raise BadName(f"{filename!r} is not an sdist's name: {error}") from error
    return package, version


def wheel_name_with_build(name: WheelName, build: int) -> str:
    """The filename *name* gets under build tag *build* (PEP 427: the tag starts with a digit)."""
    parts = name.filename.removesuffix(".whl").split("-")
    if name.build:
        del parts[2]
    parts.insert(2, str(build))
    return "-".join(parts) + ".whl"
