"""Asking a real index, over real http, what it has."""

import hashlib
import socket
from datetime import UTC, datetime

import pytest

from piwheels.model.builds import Sdist
from piwheels.model.errors import BadName, Unavailable
from piwheels.pypi import NoSuchProject, PyPI
from tests.pypi_server import small_pypi


@pytest.fixture
def index(tmp_path):
    with small_pypi(tmp_path) as index:
        yield index


@pytest.fixture
def ask(index):
    with PyPI(index.simple_url, pause=0.0) as client:
        yield client.project


def only(page):
    (version,) = page.versions
    return version


def test_an_sdist_is_known_with_all_that_the_index_says_of_it(index, ask):
    index.put(
        "six-1.0.tar.gz", b"content", requires_python=">=2.7", upload_time="2024-12-04T17:35:26Z"
    )
    version = only(ask("six"))
    assert version.released == datetime(2024, 12, 4, 17, 35, 26, tzinfo=UTC)
    assert version.requires_python == ">=2.7"
    assert version.sdist == Sdist(
        "six-1.0.tar.gz",
        f"{index.url}/files/six-1.0.tar.gz",
        hashlib.sha256(b"content").hexdigest(),
        7,
    )


def test_an_index_without_json_is_understood_as_far_as_html_goes(index, ask):
    index.speaks_json = False
    index.put("six-1.0.tar.gz", b"content", requires_python=">=2.7", yanked="a <b>")
    version = only(ask("six"))
    assert (version.requires_python, version.yanked) == (">=2.7", "a <b>")
    assert version.sdist.sha256 == hashlib.sha256(b"content").hexdigest()


def test_a_name_may_be_spelled_in_any_way(index, ask):
    index.put("Zope.Interface-5.0.tar.gz")
    assert ask("zope_Interface").package == "zope-interface"


def test_a_tar_is_better_than_a_zip(index, ask):
    index.put("six-1.0.zip")
    index.put("six-1.0.tar.gz")
    assert only(ask("six")).sdist.filename == "six-1.0.tar.gz"


def test_a_zip_is_better_than_nothing(index, ask):
    index.put("six-1.0.zip")
    assert only(ask("six")).sdist.filename == "six-1.0.zip"


def test_the_tags_of_all_wheels_are_united(index, ask):
    index.put("six-1.0-py2.py3-none-any.whl")
    index.put("six-1.0-cp311-abi3-linux_armv7l.whl")
    assert only(ask("six")).tags == {"py2-none-any", "py3-none-any", "cp311-abi3-linux_armv7l"}


def test_a_version_was_released_when_its_first_file_was_uploaded(index, ask):
    index.put("six-1.0.tar.gz", upload_time="2024-12-05T00:00:00Z")
    index.put("six-1.0-py3-none-any.whl", upload_time="2024-12-04T00:00:00Z")
    assert only(ask("six")).released == datetime(2024, 12, 4, tzinfo=UTC)


def test_a_version_is_yanked_if_all_of_its_files_are(index, ask):
    index.put("six-1.0.tar.gz", yanked="broken")
    index.put("six-1.0-py3-none-any.whl", yanked=True)
    assert only(ask("six")).yanked == "broken"
    index.put("six-1.0-py3-none-any.whl")
    assert only(ask("six")).yanked is None


def test_a_version_yanked_without_a_reason_is_yanked(index, ask):
    index.put("six-1.0.tar.gz", yanked=True)
    assert only(ask("six")).yanked == ""


def test_a_version_is_spelled_as_the_page_spells_it(index, ask):
    index.put("six-1.0.0b1.tar.gz")
    index.projects["six"] = {"versions": ["1.0.0-beta1", "0.9"]}
    assert {version.version for version in ask("six").versions} == {"1.0.0-beta1", "0.9"}


def test_the_serial_of_the_page_is_known(index, ask):
    index.projects["six"] = {"meta": {"api-version": "1.1", "_last-serial": 42}}
    assert ask("six").serial == 42


@pytest.mark.parametrize(
    "filename",
    [
        "six-what.tar.gz",
        "six-1.0.tar.bz2",
        "six-1.0.exe",
        "six-1.0-py2.7.egg",
        "six-1.0-py3-none.whl",
        "six-1.0_1-py3-none-any.whl",
        "six.txt",
        "six",
    ],
)
def test_an_odd_file_is_left_out_and_counted(index, ask, filename):
    index.put(filename)
    index.put("six-0.9.tar.gz")
    page = ask("six")
    assert [version.version for version in page.versions] == ["0.9"]
    assert page.left_out == 1


@pytest.mark.parametrize("hashes", [{}, {"md5": "0" * 32}, {"sha256": "not hex"}])
def test_an_sdist_without_a_sha256_is_left_out_and_counted(index, ask, hashes):
    index.put("six-1.0.tar.gz", hashes=hashes)
    assert (ask("six").versions, ask("six").left_out) == ((), 1)


def test_a_file_of_another_project_is_left_out_and_counted(index, ask):
    index.put("seven-1.0-py3-none-any.whl")
    files = index.page("seven")["files"]
    index.projects["six"] = {"files": files}
    assert ask("six").left_out == 1


def test_what_postgresql_cannot_store_is_taken_out_of_texts(index, ask):
    index.put("six-1.0.tar.gz", yanked="a\0b\ud800 c\n d")
    assert only(ask("six")).yanked == "ab? c d"


@pytest.mark.parametrize("size", [-1, 2**63])
def test_an_impossible_size_is_no_size(index, ask, size):
    index.put("six-1.0.tar.gz", size=size)
    assert only(ask("six")).sdist.size is None


def test_a_project_that_is_not_there_is_said_to_be_missing(index, ask):
    with pytest.raises(NoSuchProject, match=r"no project seven on .*: check the spelling"):
        ask("seven")


def test_a_name_that_is_none_is_not_asked_for(index, ask):
    with pytest.raises(BadName):
        ask("../../etc")
    assert index.asked == []


def test_a_server_in_trouble_is_asked_three_times(index, ask):
    index.statuses["six"] = 503
    with pytest.raises(Unavailable, match=r"answers 503 .*: try again later"):
        ask("six")
    assert index.asked == ["/simple/six/"] * 3


def test_a_server_that_wants_to_be_left_alone_is(index, ask):
    index.statuses["six"] = 429
    with pytest.raises(Unavailable, match="answers 429"):
        ask("six")
    assert len(index.asked) == 1


@pytest.mark.parametrize("is_json", [True, False])
def test_the_status_of_a_project_is_known_with_its_reason(index, ask, is_json):
    index.speaks_json = is_json
    index.put("six-1.0.tar.gz")
    index.projects["six"] = {"project-status": {"status": "archived", "reason": "a <b>\n c"}}
    assert (ask("six").status, ask("six").status_reason) == ("archived", "a <b> c")


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("marker", [{}, {"status": "hibernating", "reason": "cold"}])
def test_a_project_without_a_known_status_is_active(index, ask, marker, is_json):
    index.speaks_json = is_json
    index.put("six-1.0.tar.gz")
    index.projects["six"] = {"project-status": marker}
    assert (ask("six").status, ask("six").status_reason) == ("active", "")
    assert only(ask("six")).version == "1.0"


@pytest.mark.parametrize("marker", [None, "archived", ["archived"], {"status": ["archived"]}])
def test_a_status_of_another_shape_is_none(index, ask, marker):
    index.projects["six"] = {"project-status": marker}
    assert ask("six").status == "active"


def test_a_page_that_is_nonsense_is_said_to_be(index, ask):
    index.projects["six"] = {"files": "none"}
    with pytest.raises(Unavailable, match=r"cannot be read .*: check that the address"):
        ask("six")


def test_an_index_of_the_far_future_is_said_to_be(index, ask):
    index.projects["six"] = {"meta": {"api-version": "2.0"}}
    with pytest.raises(Unavailable, match="cannot be read"):
        ask("six")


def test_an_index_that_nobody_serves_is_said_to_be_away():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/simple/"
        with PyPI(url, pause=0.0) as client, pytest.raises(Unavailable) as caught:
            client.project("six")
    assert "Connection refused" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
