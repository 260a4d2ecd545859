"""Links lead somewhere, and every page can be found."""

import re
from urllib.parse import urlsplit

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from tests.docs.pages import DOCS, PAGES, ROOT, anchors, identify, links

README = ROOT / "README.rst"
RST_LINK = re.compile(r"`[^`<]+<([^>]+)>`_")
LINKS = [link for page in PAGES for link in links(page)]


@pytest.mark.parametrize("link", LINKS, ids=str)
def test_a_link_leads_to_a_page_and_a_heading(link):
    assert link.path.is_file()
    if link.fragment:
        assert link.fragment in anchors(link.path)


def test_links_of_the_readme_lead_to_files():
    targets = RST_LINK.findall(README.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_every_page_can_be_reached_from_the_map():
    found = set()
    open_ = [DOCS / "README.md"]
    while open_:
        page = open_.pop()
        if page not in found and page.suffix == ".md":
            found.add(page)
            open_ += [link.path for link in links(page)]
    assert found >= set(PAGES)


@pytest.mark.parametrize("page", [README, *PAGES], ids=identify)
def test_no_page_names_the_host_of_a_registry(page):
    assert urlsplit(PYPI_SIMPLE_ENDPOINT).hostname not in page.read_text(encoding="utf-8")
