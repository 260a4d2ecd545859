"""Asking a PyPI that has a history for pages: fresh, old, in trouble or hostile."""

from itertools import repeat
from threading import Thread

import pytest

from piwheels.model.errors import Unavailable
from piwheels.pypi import NoSuchProject, PyPI, RateLimited, StalePage
from tests.history import Archived, Cleared, File, FileAdded, History, Quarantined, Removed
from tests.pypi_server import JSON
from tests.scripted_pypi import Answer, Cut, Stale, Stall, Trickle, limited, scripted_pypi

SIX = History().release("six", "1.0", File("six-1.0.tar.gz", b"old"))
LATER = SIX.then(FileAdded("six", "1.0", File("six-1.0-py3-none-any.whl")))
PAGE = "/simple/six/"


@pytest.fixture
def pypi():
    with scripted_pypi(SIX) as pypi:
        yield pypi


@pytest.fixture
def client(pypi):
    timeouts = (5.0, 0.2)
    with PyPI(pypi.simple_url, pause=0.0, timeouts=timeouts, patience=60.0) as client:
        yield client


@pytest.mark.parametrize("is_json", [True, False])
def test_a_page_has_the_serial_of_the_last_change(pypi, client, is_json):
    pypi.speaks_json = is_json
    assert client.project("six", serial=3).serial == 3


@pytest.mark.parametrize("is_json", [True, False])
def test_an_old_copy_of_a_page_is_not_believed(pypi, client, is_json):
    pypi.speaks_json = is_json
    pypi.catalogue = LATER
    pypi.fail(PAGE, Stale(3), times=1)
    with pytest.raises(StalePage, match=r"is of serial 3, before 4: .*try again later"):
        client.project("six", serial=4)
    assert client.project("six", serial=4).serial == 4


def test_an_old_copy_is_as_good_as_any_for_who_asks_for_no_serial(pypi, client):
    pypi.catalogue = LATER
    pypi.fail(PAGE, Stale(3))
    assert client.project("six").serial == 3


def test_a_page_that_does_not_say_its_serial_is_believed(pypi, client):
    page = b'{"meta":{"api-version":"1.0"},"name":"six","files":[]}'
    pypi.fail(PAGE, Answer(page, JSON))
    assert client.project("six", serial=4).serial is None


@pytest.mark.parametrize("serial", [b"-1", b"99999999999999999999", b'"six"', b"null"])
def test_a_serial_that_is_none_is_unknown(pypi, client, serial):
    page = b'{"meta":{"api-version":"1.0","_last-serial":%b},"name":"six","files":[]}' % serial
    pypi.fail(PAGE, Answer(page, JSON))
    assert client.project("six", serial=4).serial is None


def test_a_project_that_is_gone_is_gone_whatever_the_serial(pypi, client):
    pypi.catalogue = SIX.then(Removed("six"))
    with pytest.raises(NoSuchProject):
        client.project("six", serial=4)


def test_an_old_copy_may_show_a_project_that_is_gone(pypi, client):
    pypi.catalogue = SIX.then(Removed("six"))
    pypi.fail(PAGE, Stale(3))
    with pytest.raises(StalePage):
        client.project("six", serial=4)


def test_a_project_in_quarantine_has_no_versions_until_it_is_cleared(pypi, client):
    pypi.catalogue = SIX.then(Quarantined("six", "malware"))
    page = client.project("six")
    assert (page.status, page.status_reason, page.versions) == ("quarantined", "malware", ())
    pypi.catalogue = pypi.catalogue.then(Cleared("six"))
    assert len(client.project("six").versions) == 1


def test_an_archived_project_has_its_versions(pypi, client):
    pypi.catalogue = SIX.then(Archived("six"))
    page = client.project("six", serial=3)
    assert (page.status, len(page.versions)) == ("archived", 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 1.0),
        ({"Retry-After": "9" * 30}, 3600.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1.0),
        ({"Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"}, 3600.0),
        ({"Retry-After": "soon"}, 60.0),
        ({"Retry-After": "-5"}, 60.0),
        ({"RateLimit": '"default";r=0;t=30'}, 30.0),
        ({"RateLimit": "limit=10, remaining=0, reset=15"}, 15.0),
        ({"RateLimit-Reset": "20"}, 20.0),
        ({"RateLimit-Reset": "soon"}, 60.0),
        ({"Retry-After": "7", "RateLimit-Reset": "20"}, 7.0),
        ({}, 60.0),
    ],
)
def test_a_server_that_wants_to_be_left_alone_says_how_long(pypi, client, headers, seconds):
    pypi.fail(PAGE, Answer(status=429, headers=tuple(headers.items())))
    with pytest.raises(RateLimited, match="answers 429") as caught:
        client.project("six")
    assert (caught.value.seconds, len(pypi.asked)) == (seconds, 1)


def test_who_waits_as_long_is_answered(pypi, client):
    pypi.fail(PAGE, limited(), times=1)
    with pytest.raises(RateLimited):
        client.project("six")
    assert client.project("six").serial == 3


def test_many_questions_need_one_connection(pypi, client):
    for _ in range(5):
        client.project("six")
    assert pypi.connections == 1


def test_many_threads_may_ask_at_once(pypi):
    with PyPI(pypi.simple_url, connections=4) as client:
        found = []
        threads = [
            Thread(target=lambda: found.extend(client.project("six").serial for _ in range(20)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [3] * 80
    assert pypi.connections <= 4


@pytest.mark.parametrize("is_json", [True, False])
def test_a_page_that_is_cut_anywhere_is_not_believed(pypi, client, is_json):
    """Not after any byte, in the head least of all: an empty page would withdraw all versions."""
    pypi.speaks_json = is_json
    for after in range(0, 340, 7):
        pypi.plan.clear()
        pypi.fail(PAGE, Cut(after))
        with pytest.raises(Unavailable):
            client.project("six")


@pytest.mark.parametrize("after", [0, 20, 250])
def test_a_server_that_stalls_is_given_up(pypi, client, after):
    pypi.fail(PAGE, Stall(after))
    with pytest.raises(Unavailable, match="timed out"):
        client.project("six")


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(pypi, client):
    client.patience = 0.1
    pypi.fail(PAGE, Trickle())
    with pytest.raises(Unavailable, match="too slowly"):
        client.project("six")


def test_a_page_without_end_is_given_up(pypi, client):
    pypi.fail(PAGE, Answer(repeat(b" " * 1_000_000), JSON))
    with pytest.raises(Unavailable, match=r"sends more than \d+ bytes"):
        client.project("six")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"meta":{"api-version":"1.0"},"name":"six","files":[' + b"9" * 10_000 + b"]}",
        b'{"meta":{"api-version":"1.0"},"name":"six","files":[{}]}',
        b'{"meta":{"api-version":"one"},"name":"six","files":[]}',
        b'{"meta":null,"name":7,"files":[]}',
        b"\xff\xfe",
    ],
)
def test_a_page_that_is_nonsense_is_not_believed(pypi, client, content):
    pypi.fail(PAGE, Answer(content, JSON))
    with pytest.raises(Unavailable, match="cannot be read"):
        client.project("six")


def test_a_page_of_another_kind_is_not_believed(pypi, client):
    pypi.fail(PAGE, Answer(b"six", "text/plain"))
    with pytest.raises(Unavailable, match="the content type is text/plain"):
        client.project("six")
