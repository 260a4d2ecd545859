"""The tutorial, done from its first command to its last."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT
from tests.docs.tutorial import Reader, clean_environment, steps
from tests.farm.conftest import pythons
from tests.pypi_server import small_pypi
from tests.running_farm import BIN
from tests.sdists import PACKAGES, make_sdist

__all__ = ["pythons"]

TUTORIAL = DOCS / "tutorial.md"

# What the tutorial's packages stand for: small ones of ours, under their names.
STAND_INS = {
    "six": ("1.16.0", "tiny-pure", {}),
    "markupsafe": ("3.0.4", "tiny-extension", {}),
    "pyyaml": ("6.0.3", "tiny-extension", {}),
    "pyodbc": ("5.5.0", "tiny-missing-header", {"libpq-fe.h": "sql.h"}),
}


def put_stand_ins(folder: Path, index: Path) -> None:
    for name, (version, tiny, words) in STAND_INS.items():
        source = folder / name
        shutil.copytree(PACKAGES / tiny, source)
        words = words | {tiny: name, tiny.replace("-", "_"): name, '"1.0"': f'"{version}"'}
        for path in list(source.iterdir()):
            text = path.read_text(encoding="utf-8")
            for word, other in words.items():
                text = text.replace(word, other)
            path.with_name(path.name.replace(tiny.replace("-", "_"), name)).write_text(text)
        make_sdist(source, index, version)


@pytest.fixture
def reader(tmp_path, pythons):
    """Somebody in front of this machine, with a PyPI that has what the tutorial needs."""
    (tmp_path / "index").mkdir()
    (tmp_path / "sources").mkdir()
    put_stand_ins(tmp_path / "sources", tmp_path / "index")
    here = {
        "scripts/farm": str(BIN / "piw-farm"),  # the script would prepare what is running
        '"$(.venv/bin/uv python find 3.13)"': pythons[1],
        "--python python3.11": f"--python {sys.executable}",
        ".venv/bin/": f"{BIN}/",
        "~/.local/share": str(tmp_path / "share"),
        "/tmp/try": str(tmp_path / "try"),
        "python3 -m venv": f"{sys.executable} -m venv",
    }
    with small_pypi(tmp_path / "index") as pypi:
        reader = Reader(tmp_path, here, clean_environment(tmp_path, pypi.simple_url))
        yield reader
        reader.leave()


@pytest.mark.timeout(900)
def test_the_tutorial_does_what_it_says(reader):
    todo = list(steps(TUTORIAL))
    assert len(todo) > 20
    for step in todo:
        reader.do(step)
    assert reader.terminal is None
    assert not (reader.folder / "share" / "piwheels").exists()


def test_the_readme_shows_what_the_tutorial_shows():
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    block = re.search(r"::\n\n((?: {4}.*\n)+)", readme[readme.index("else it says") :])
    assert block is not None
    shown = {line.strip() for line in block[1].splitlines()}
    tutorial = {line.strip() for line in TUTORIAL.read_text(encoding="utf-8").splitlines()}
    ends = {line for line in shown if line.startswith(("more ", "end "))}
    assert len(ends) == 2
    assert shown - ends <= tutorial
