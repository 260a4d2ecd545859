"""Packages that nobody has heard of: those of tests/packages under names of their own."""

import shutil
from pathlib import Path

from tests.sdists import PACKAGES, make_sdist

NAMED_IN = ("PKG-INFO", "pyproject.toml")


def release(package: str, name: str, destination: Path) -> Path:
    """Write an sdist of tests/packages/*package* that calls itself *name*; return its path."""
    source = destination / f".{name}"
    shutil.copytree(PACKAGES / package, source)
    try:
        for file in NAMED_IN:
            text = (source / file).read_text(encoding="utf-8")
            (source / file).write_text(text.replace(package, name), encoding="utf-8")
        return make_sdist(source, destination)
    finally:
        shutil.rmtree(source)
