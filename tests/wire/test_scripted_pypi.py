"""The PyPI for tests speaks as PyPI does, to clients that are not ours."""

import hashlib
import subprocess
import sys
import xmlrpc.client
from pathlib import Path

import pytest
import requests
from pypi_simple import PyPISimple

from tests.generated import Generated
from tests.history import File, History, Removed, Yanked
from tests.pypi_server import JSON
from tests.scripted_pypi import history_of, scripted_pypi
from tests.sdists import PACKAGES

ROOT = Path(__file__).parents[2]
HISTORY = (
    History()
    .release("a<b>&c", "1.0")
    .release("Six", "1.0", File("six-1.0.tar.gz", b"content", ">=3.8"))
    .then(Yanked("six", "1.0", "a <b>"))
)


@pytest.fixture
def pypi():
    with scripted_pypi(HISTORY) as pypi:
        yield pypi


@pytest.mark.parametrize("catalogue", [HISTORY, Generated(20)])
def test_the_journal_is_what_a_common_client_reads(pypi, catalogue):
    pypi.catalogue = catalogue
    with xmlrpc.client.ServerProxy(pypi.journal_url) as proxy:
        assert proxy.changelog_last_serial() == catalogue.last_serial()
        assert proxy.changelog_since_serial(2) == [list(row) for row in catalogue.rows(2)]
        assert proxy.list_packages_with_serial() == dict(catalogue.serials())


def test_a_method_that_pypi_has_no_longer_is_a_fault(pypi):
    proxy = xmlrpc.client.ServerProxy(pypi.journal_url)
    with proxy, pytest.raises(xmlrpc.client.Fault, match="method not found"):
        proxy.list_packages()


@pytest.mark.parametrize("is_json", [True, False])
def test_pages_are_what_a_common_client_reads(pypi, is_json):
    pypi.speaks_json = is_json
    with PyPISimple(pypi.simple_url) as client:
        (file,) = client.get_project_page("six").packages
        assert client.get_index_page().projects == ["a<b>&c", "Six"]
    assert (file.is_yanked, file.yanked_reason, file.requires_python) == (True, "a <b>", ">=3.8")
    content = requests.get(file.url, timeout=30).content
    assert hashlib.sha256(content).hexdigest() == file.digests["sha256"]


def test_a_page_that_did_not_change_is_not_sent_again(pypi):
    headers = {"Accept": JSON}
    first = requests.get(f"{pypi.simple_url}six/", headers=headers, timeout=30)
    headers["If-None-Match"] = first.headers["ETag"]
    again = requests.get(f"{pypi.simple_url}six/", headers=headers, timeout=30)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["X-PyPI-Last-Serial"] == "6"


def test_what_is_gone_is_not_found(pypi):
    pypi.catalogue = HISTORY.then(Removed("six"))
    assert requests.get(f"{pypi.simple_url}six/", timeout=30).status_code == 404


def test_the_packages_of_the_tests_have_a_history():
    history = history_of(PACKAGES)
    page = history.page("tiny-pure", "https://files/")
    assert page["versions"] == ["1.0"]
    assert history.content(page["files"][0]["filename"])[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--generated", "10"], "generated-0000001"),
        ([str(PACKAGES)], "tiny-pure"),
        (["SCRIPT"], "six"),
    ],
)
def test_it_runs_on_its_own(tmp_path, words, name):
    script = tmp_path / "script.py"
    script.write_text("from tests.wire.test_scripted_pypi import HISTORY as history\n")
    words = [str(script) if word == "SCRIPT" else word for word in words]
    command = [sys.executable, "-m", "tests.scripted_pypi", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            simple_url = process.stdout.readline().split()[1]
            assert requests.get(f"{simple_url}{name}/", timeout=30).ok
        finally:
            process.terminate()
