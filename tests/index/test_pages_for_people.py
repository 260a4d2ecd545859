"""The home page and a package's page, for every text that a stranger may have put in."""

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.index.characters import printable
from piwheels.index.pages import Home, PackageCounts, Site, home_page, not_found_page, project_page
from piwheels.model.published import Project, PublishedFile, Release, Standing
from tests.index.conftest import NOON, project

SITE = Site(url="https://farm.example/", pypi_url="https://origin.example/")
HOSTILE = "<script>alert(1)</script>\"'&lt;${1/0} \ud800\x00"
texts = st.text(max_size=30)
standings = st.builds(
    Standing,
    target=st.sampled_from(["cp311-linux_armv7l", "cp313-linux_aarch64"]) | texts,
    state=st.sampled_from(["done", "failed", "none"]) | texts,
    filename=texts,
    log=texts,
    cause=texts,
    fix=texts,
)
releases = st.builds(
    Release,
    version=texts,
    released=st.none() | st.just(NOON),
    yanked=st.none() | texts,
    skip=texts,
    standings=st.lists(standings, max_size=3).map(tuple),
)


def parse(text: str):
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def said(document) -> str:
    return " ".join("".join(document.itertext()).split())


def failed(target: str, cause: str, **values: str) -> Standing:
    return Standing(target, "failed", cause=cause, **values)


def page_of(*standings: Standing, files: tuple[PublishedFile, ...] = (), **values):
    fields = {"version": "1.0", "released": NOON, "yanked": None, "skip": ""} | values
    release = Release(**fields, standings=standings)
    return parse(project_page(project("tiny", files, (release,)), SITE))


def hrefs(document) -> list[str]:
    return [link.get("href") for link in document.iter("a")]


@given(texts, texts, st.lists(releases, max_size=3).map(tuple))
def test_a_package_page_is_valid_and_runs_nothing_whatever_the_texts(name, summary, some):
    document = parse(project_page(Project("tiny", name, summary, (), some), SITE))
    assert not list(document.iter("script"))
    assert {element.tag for element in document.iter() if isinstance(element.tag, str)} <= {
        *("html", "head", "meta", "title", "link", "body", "header", "nav", "main", "section"),
        *("h1", "h2", "p", "a", "table", "thead", "tbody", "tr", "th", "td", "small", "span"),
        *("time", "b", "pre", "code"),
    }
    assert all(href.startswith(("../../", "https://origin.example/")) for href in hrefs(document))


@given(texts)
def test_a_package_page_says_a_failures_cause_in_its_own_words(cause):
    document = page_of(failed("cp311-linux_armv7l", "x" + cause))
    assert " ".join(("x" + printable(cause)).split()) in said(document)


def test_hostile_texts_stay_texts():
    document = parse(
        project_page(
            Project(
                "tiny",
                HOSTILE,
                HOSTILE,
                (),
                (Release(HOSTILE, NOON, HOSTILE, HOSTILE, (failed(HOSTILE, HOSTILE),)),),
            ),
            SITE,
        )
    )
    assert not list(document.iter("script"))
    assert said(document).count(printable(HOSTILE)) >= 6


def test_a_failure_shows_its_cause_its_fix_and_a_link_to_its_log():
    document = page_of(
        failed(
            "cp311-linux_armv7l",
            "fatal error: ffi.h: No such file or directory",
            fix="apt install libffi-dev",
            log="logs/0000/0001/2345.txt.gz",
        )
    )
    assert "ffi.h: No such file" in said(document)
    assert "apt install libffi-dev" in said(document)
    assert "../../logs/0000/0001/2345.txt.gz" in hrefs(document)


def test_a_cause_that_several_targets_share_is_said_once():
    document = page_of(failed("cp311-a", "no ffi.h"), failed("cp313-a", "no ffi.h"))
    assert said(document).count("no ffi.h") == 1
    assert "cp311-a, cp313-a" in said(document)


def test_a_finished_target_links_to_its_wheel():
    name = "tiny-1.0+x-py3-none-any.whl"
    file = PublishedFile(name, "1.0+x", 1, "a" * 64, "b" * 64, "", NOON)
    document = page_of(Standing("cp311-a", "done", name), files=(file,))
    assert "../../simple/tiny/tiny-1.0%2Bx-py3-none-any.whl" in hrefs(document)


def test_a_wheel_that_is_not_published_is_not_linked():
    document = page_of(Standing("cp311-a", "done", "tiny-1.0-py3-none-any.whl"))
    assert not [href for href in hrefs(document) if href.endswith(".whl")]


@pytest.mark.parametrize(
    ("state", "word"),
    [("building", "building"), ("waiting", "waiting"), ("skipped", "skipped"), ("odd", "odd")],
)
def test_every_state_is_named(state, word):
    assert word in said(page_of(Standing("cp311-a", state)))


def test_a_skipped_release_says_why():
    assert "too large" in said(page_of(skip="too large"))


def test_a_package_without_a_file_links_to_no_simple_page():
    document = parse(project_page(project("tiny"), SITE))
    assert "../../simple/tiny/" not in hrefs(document)
    assert "No wheel of it" in said(document)


def test_a_package_page_leads_to_the_project_on_pypi():
    document = parse(project_page(project("tiny"), SITE))
    assert "https://origin.example/project/tiny/" in hrefs(document)


@given(st.lists(st.tuples(texts, texts, st.dictionaries(texts, st.integers(0, 10**7)))))
def test_the_home_page_is_valid_and_runs_nothing_whatever_the_texts(rows):
    home = Home(tuple(PackageCounts("tiny", text, states) for text, _, states in rows), len(rows))
    document = parse(home_page(home, SITE))
    assert not list(document.iter("script"))
    for text, _, _ in rows:
        assert " ".join(printable(text).split()) in said(document)


def test_the_home_page_counts_each_packages_states():
    home = Home((PackageCounts("tiny", "A thing", {"failed": 2, "done": 1500}),), 1)
    document = parse(home_page(home, SITE))
    assert "1,500 wheels 2 failed" in said(document)
    assert "project/tiny/" in hrefs(document)


def test_pip_is_told_to_trust_a_host_that_nothing_encrypts_the_way_to():
    home = Home((), 0)
    assert "--trusted-host pi.local:8080" in home_page(home, Site(url="http://pi.local:8080"))


@pytest.mark.parametrize(
    "url", ["https://farm.example", "http://localhost:80", "http://127.0.0.1:1", "http://[::1]:1"]
)
def test_pip_needs_no_such_word_for_other_hosts(url):
    assert "trusted-host" not in home_page(Home((), 0), Site(url=url))


def test_the_page_for_missing_pages_links_from_the_hosts_root():
    document = parse(not_found_page(Site(url="https://farm.example/wheels")))
    assert set(hrefs(document)) == {"/wheels/", "/wheels/simple/"}
