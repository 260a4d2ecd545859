"""How anybody else builds a wheel, on equal terms: one index, warm caches, no settings."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from uv import find_uv_bin

from scripts.benchmarks.result import BenchmarkFailed

PATIENCE = 300.0  # seconds
PIP = (sys.executable, "-m", "pip")
OTHER_SOURCES = (
    *("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_CONSTRAINT"),
    *("UV_INDEX", "UV_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_NO_INDEX"),
)


def environment(index: str, caches: Path) -> dict[str, str]:
    """Variables that let pip and uv ask *index* alone, to be added to the usual ones."""
    return dict.fromkeys(OTHER_SOURCES, "") | {  # both take an empty one for an absent one
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index,
        "PIP_CACHE_DIR": str(caches / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "UV_DEFAULT_INDEX": index,
        "UV_CACHE_DIR": str(caches / "uv"),
    }


def pip_wheel(sdist: Path, destination: Path, variables: Mapping[str, str]) -> None:
    """Build with pip wheel. Raise BenchmarkFailed."""
    _run([*PIP, "wheel", "--no-deps", "--wheel-dir", destination, sdist], variables)


def uv_build(sdist: Path, destination: Path, variables: Mapping[str, str]) -> None:
    """Build with uv build. Raise BenchmarkFailed."""
    words = ["build", "--wheel", "--python", sys.executable, "--out-dir"]
    _run([find_uv_bin(), *words, destination, sdist], variables)


def fetch(requirements: Iterable[str], destination: Path) -> None:
    """Download wheels from where this user's pip finds them. Raise BenchmarkFailed."""
    words = ["download", "--only-binary", ":all:", "--dest"]
    _run([*PIP, *words, destination, *requirements], {})


def download(requirement: str, index: str, destination: Path, variables: Mapping[str, str]) -> None:
    """Download a wheel from *index*, past every cache. Raise BenchmarkFailed."""
    words = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--index-url", index]
    _run([*PIP, "download", *words, "--dest", destination, requirement], variables)


def _run(words: Iterable[str | Path], variables: Mapping[str, str]) -> None:
    command = [str(word) for word in words]
    answer = subprocess.run(
        command,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if answer.returncode:
        said = answer.stderr.strip() or answer.stdout.strip()
        raise BenchmarkFailed(f"{shlex.join(command)}: {said}")
