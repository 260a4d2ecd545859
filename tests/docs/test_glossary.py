"""The words of the project: each once, in order, and the same as in the code."""

import re

from piwheels.model.builds import FailureClass
from piwheels.model.queue import State
from tests.docs.pages import DOCS

ROW = re.compile(r"^\| (\w[\w ,-]*?) \|", re.MULTILINE)


def words(page: str) -> list[str]:
    """The first column of a page's first table, without its head."""
    text = (DOCS / page).read_text(encoding="utf-8").partition("| --- |")[2]
    return ROW.findall(text.partition("\n\n")[0])


def test_the_words_of_the_glossary_are_unique_and_sorted():
    found = words("glossary.md")
    assert len(found) > 30
    assert found == sorted(set(found))


def test_the_page_of_standing_states_has_every_state():
    assert words("reference/states.md") == sorted(State)


def test_advice_is_given_for_classes_of_failure_that_exist():
    text = (DOCS / "how-to" / "read-a-failure.md").read_text(encoding="utf-8")
    rows = ROW.findall(text.partition("| class | do |")[2].partition("\n\n")[0])
    named = {name for row in rows for name in row.split(", ")} - {"all others"}
    assert named
    assert named <= set(FailureClass)
