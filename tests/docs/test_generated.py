"""What docs/ takes from the code is what the code has."""

import re

import pytest

from tests.docs.generator.blocks import names, renew
from tests.docs.generator.options import commands
from tests.docs.generator.renders import RENDERS
from tests.docs.pages import DOCS, PAGES, identify
from tests.postgres_fixture import cursor

COMMAND_PAGES = DOCS / "reference" / "commands"


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_a_generated_block_is_as_the_code_has_it(page):
    text = page.read_text(encoding="utf-8")
    assert renew(text, RENDERS) == text, "run scripts/docs"


def test_each_command_has_a_page_with_its_options():
    pages = {page.stem: page for page in COMMAND_PAGES.glob("*.md")}
    assert pages.keys() == commands().keys()
    for command, page in pages.items():
        assert names(page.read_text(encoding="utf-8")) == [f"options {command}"]


def test_every_kind_of_block_is_used():
    used = {name.split()[0] for page in PAGES for name in names(page.read_text(encoding="utf-8"))}
    assert used == RENDERS.keys()


def test_the_schema_page_has_every_column_of_the_database(farm_database):
    with cursor(farm_database) as statements:
        statements.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name !~ 'yoyo'"
        )
        real = set(statements.fetchall())
    page = (DOCS / "reference" / "schema.md").read_text(encoding="utf-8")
    told = {
        (section.partition("\n")[0], column)
        for section in page.split("\n### ")[1:]
        for column in re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
    }
    assert told == real
