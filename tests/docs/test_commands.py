"""What pages tell people to type is there: commands, options, files, units, configuration."""

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.generator.options import commands, options_of, parser_of
from tests.docs.pages import COMMENT, FENCE, PAGES, ROOT, identify
from tests.running_farm import BIN

README = ROOT / "README.rst"
COMMAND = re.compile(r"\bpiw-[a-z]+\b")
SCRIPT = re.compile(r"\bscripts/\w+")
SOURCE = re.compile(r"`((?:piwheels|sql|tests)/[\w./-]+)`")
UNIT = re.compile(r"<!-- unit (\S+) -->\n```ini\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FARM_PARTS = ("Unit", "Service", "Install", "global")  # sections that are not the farm's


def blocks(page: Path, language: str) -> Iterator[str]:
    for found in FENCE.finditer(page.read_text(encoding="utf-8")):
        if found[1] == language:
            yield found[2]


def calls(page: Path) -> Iterator[list[str]]:
    """The words of each call of a command of ours in the page's shell blocks."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            names = [Path(word).name for word in words]
            for place, name in enumerate(names):
                if name in commands() and not words[place].startswith("-"):
                    yield [name, *words[place + 1 :]]
                    break
                if words[place] == "scripts/farm":
                    yield ["piw-farm", *words[place + 1 :]]
                    break


CALLS = [words for page in PAGES for words in calls(page)]
SETTINGS = [
    block
    for page in PAGES
    for block in blocks(page, "ini")
    if block.startswith("[") and not block.startswith(tuple(f"[{name}]" for name in FARM_PARTS))
]


@pytest.mark.parametrize("page", [README, *PAGES], ids=identify)
def test_every_command_and_script_that_is_named_exists(page):
    text = page.read_text(encoding="utf-8")
    assert set(COMMAND.findall(COMMENT.sub("", text))) <= commands().keys()
    assert [name for name in SCRIPT.findall(text) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_every_source_file_that_is_named_exists(page):
    named = SOURCE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_a_call_on_a_page_is_understood_by_its_command(words, tmp_path):
    command, *arguments = words
    parser = parser_of(command)
    assert {word for word in arguments if word.startswith("-")} <= options_of(parser)
    if "-c" in arguments:
        place = arguments.index("-c")
        del arguments[place : place + 2]
    parser.parse(["-c", str(_no_settings(tmp_path)), *arguments], {})


def _no_settings(folder: Path) -> Path:
    """A file in place of those of this host."""
    file = folder / "none.conf"
    file.touch()
    return file


@pytest.mark.parametrize("text", SETTINGS, ids=lambda text: text.replace("\n", " ")[:40])
def test_a_configuration_on_a_page_is_understood_by_its_commands(text, tmp_path):
    file = tmp_path / "piwheels.conf"
    file.write_text(text)
    sections = configparser.ConfigParser(interpolation=None, default_section="")
    sections.read_string(text)
    for section in set(sections.sections()) - {"DEFAULT"}:
        parser_of(f"piw-{section}").parse(["-c", str(file)], {})


def test_configurations_of_uv_can_be_read():
    texts = [block for page in PAGES for block in blocks(page, "toml")]
    assert texts
    for text in texts:
        settings = tomllib.loads(text)
        uv = settings.get("tool", {}).get("uv", settings)
        assert uv["index-strategy"] == "unsafe-best-match"
        assert [index.keys() for index in uv["index"]] == [{"url"}]


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze (apt install systemd)")
    text = (ROOT / "docs" / "how-to" / "run-master-and-slaves.md").read_text(encoding="utf-8")
    units = [tmp_path / name for name, _ in UNIT.findall(text)]
    assert [unit.name for unit in units] == ["piwheels-master.service", "piwheels-slave.service"]
    for unit, (_, lines) in zip(units, UNIT.findall(text), strict=True):
        unit.write_text(lines.replace("/opt/piwheels/bin", str(BIN)))
    answer = subprocess.run(
        [analyze, "verify", *units], capture_output=True, text=True, check=False, timeout=60
    )
    assert (answer.returncode, answer.stderr) == (0, "")
