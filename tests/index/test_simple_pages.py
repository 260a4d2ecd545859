"""What pip and uv read, for every text that a stranger may have put in."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import unquote, urlsplit

import html5lib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mousebender.simple import from_project_details_html, parse_project_details
from pypi_simple import ProjectPage

from piwheels.index import simple
from piwheels.index.characters import printable
from piwheels.model.published import PublishedFile
from tests.index.conftest import NOON

FILE = PublishedFile("tiny-1.0-py3-none-any.whl", "1.0", 1234, "a" * 64, "b" * 64, ">=3.8,<4", NOON)

texts = st.text(max_size=40)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
moments = st.datetimes(
    min_value=datetime(2000, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5.5))])
)
files = st.builds(
    PublishedFile,
    filename=st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=40).map(
        lambda text: f"{text}.whl"
    ),
    version=texts,
    size=st.integers(min_value=0, max_value=10**12),
    sha256=hexes,
    metadata_sha256=hexes,
    requires_python=texts,
    published=moments,
    yanked=st.none() | texts,
)


def parse_html(text: str):
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)


def links(text: str):
    return list(parse_html(text).iter("a"))


def html(*files: PublishedFile) -> str:
    return "".join(simple.project_html("tiny", files))


def entries(*files: PublishedFile) -> list[dict]:
    return json.loads("".join(simple.project_json("tiny", files)))["files"]


@given(files)
def test_a_link_says_what_is_known_of_its_file_whatever_the_texts(file):
    (link,) = links(html(file))
    expected = {
        "href": link.get("href"),
        "data-core-metadata": f"sha256={file.metadata_sha256}",
        "data-dist-info-metadata": f"sha256={file.metadata_sha256}",
    }
    if file.requires_python:
        expected["data-requires-python"] = printable(file.requires_python)
    if file.yanked is not None:
        expected["data-yanked"] = printable(file.yanked)
    assert link.attrib == expected
    assert link.text == file.filename


@given(files)
def test_a_links_address_is_the_bare_name_of_its_file_with_its_hash(file):
    (link,) = links(html(file))
    address = urlsplit(link.get("href"))
    assert (address.scheme, address.netloc, address.query) == ("", "", "")
    assert "/" not in address.path
    assert unquote(address.path) == file.filename
    assert address.fragment == f"sha256={file.sha256}"


@given(files)
def test_an_entry_says_what_is_known_of_its_file_whatever_the_texts(file):
    (entry,) = entries(file)
    assert entry["filename"] == unquote(entry["url"]) == file.filename
    assert entry["hashes"] == {"sha256": file.sha256}
    assert entry["core-metadata"] == {"sha256": file.metadata_sha256}
    assert entry["size"] == file.size
    assert entry.get("requires-python", "") == printable(file.requires_python)
    assert entry["upload-time"].endswith("Z")
    assert datetime.fromisoformat(entry["upload-time"]) == file.published
    assert entry["yanked"] == (False if file.yanked is None else printable(file.yanked) or True)


@given(st.lists(files, max_size=5))
def test_the_versions_are_those_of_the_files_each_once(some):
    page = json.loads("".join(simple.project_json("tiny", some)))
    assert set(page["versions"]) == {printable(file.version) for file in some}
    assert len(page["versions"]) == len(set(page["versions"]))


@given(st.text(st.characters(codec="utf-16-le", exclude_categories=[])))
def test_every_text_can_be_encoded_once_it_is_printable(text):
    assert printable(text).encode().decode() == printable(text)


@given(texts)
def test_what_is_printable_stays_as_it_is(text):
    assert printable(printable(text)) == printable(text)


def test_an_unknown_python_requirement_is_left_out():
    file = replace(FILE, requires_python="")
    assert "data-requires-python" not in html(file)
    assert "requires-python" not in entries(file)[0]


def test_metadata_is_not_announced_where_there_is_none():
    file = replace(FILE, metadata_sha256="")
    assert "metadata" not in html(file)
    assert "core-metadata" not in entries(file)[0]


def test_a_file_yanked_without_a_reason_is_yanked_to_every_reader():
    file = replace(FILE, yanked="")
    assert ' data-yanked=""' in html(file)
    assert entries(file)[0]["yanked"] is True


def test_the_page_states_version_1_4_of_the_interface():
    metas = {meta.get("name"): meta.get("content") for meta in parse_html(html(FILE)).iter("meta")}
    assert metas["pypi:repository-version"] == "1.4"


@pytest.mark.filterwarnings("ignore:Unsupported API minor version")  # it knows HTML up to 1.3
def test_mousebender_reads_the_same_from_html_and_json():
    text = "".join(simple.project_json("tiny", [FILE]))
    from_json = parse_project_details(text, "application/vnd.pypi.simple.v1+json", "tiny")
    from_html = from_project_details_html(html(FILE), "tiny")
    assert from_json["meta"]["api-version"] == "1.4"
    (json_file,), (html_file,) = from_json["files"], from_html["files"]
    for key in ("filename", "hashes", "requires-python"):
        assert json_file[key] == html_file[key]
    assert json_file["core-metadata"] == {"sha256": "b" * 64}


def test_pypi_simple_reads_everything_from_json():
    text = "".join(simple.project_json("tiny", [replace(FILE, yanked="broken")]))
    page = ProjectPage.from_json_data(json.loads(text), "https://farm.example/simple/tiny/")
    (package,) = page.packages
    assert page.versions == ["1.0"]
    assert package.url == "https://farm.example/simple/tiny/tiny-1.0-py3-none-any.whl"
    assert package.digests == {"sha256": "a" * 64}
    assert package.metadata_digests == {"sha256": "b" * 64}
    assert package.upload_time == NOON
    assert (package.is_yanked, package.yanked_reason) == (True, "broken")
    assert package.size == 1234


def test_pypi_simple_reads_everything_from_html():
    page = ProjectPage.from_html("tiny", html(FILE), "https://farm.example/simple/tiny/")
    (package,) = page.packages
    assert page.repository_version == "1.4"
    assert package.requires_python == ">=3.8,<4"
    assert package.digests == {"sha256": "a" * 64}
    assert package.metadata_digests == {"sha256": "b" * 64}
    assert package.has_metadata is True


@pytest.mark.parametrize("packages", [[], ["a"], ["a", "b-2", "zope-interface"]])
def test_the_root_lists_the_packages_in_both_forms(packages):
    page = "".join(simple.root_html(packages))
    assert [link.text for link in links(page)] == packages
    assert [link.get("href") for link in links(page)] == [f"{name}/" for name in packages]
    projects = json.loads("".join(simple.root_json(packages)))["projects"]
    assert projects == [{"name": name} for name in packages]
