"""Reading the list of all projects, over real http, from a PyPI that may say anything."""

import tracemalloc
from itertools import chain, count, islice, repeat

import pytest

from piwheels.model.errors import Unavailable
from piwheels.pypi import PyPI, RateLimited
from tests.generated import Generated
from tests.history import Archived, History, Quarantined
from tests.pypi_server import HTML, JSON
from tests.scripted_pypi import Answer, Cut, Stall, Trickle, limited, scripted_pypi

HISTORY = History().create("Zope.Interface").release("Six", "1.0")
SERIALS = [("Six", 3), ("Zope.Interface", 1)]
HEAD = b'{"meta":{"api-version":"1.4"},"projects":['


@pytest.fixture
def pypi():
    with scripted_pypi(HISTORY) as pypi:
        yield pypi


@pytest.fixture
def client(pypi):
    timeouts = (5.0, 0.2)
    with PyPI(pypi.simple_url, pause=0.0, timeouts=timeouts, patience=60.0) as client:
        yield client


def read(client):
    return list(client.serials())


def test_every_project_is_listed_as_it_is_spelled_with_its_serial(client):
    assert read(client) == SERIALS


def test_an_index_without_json_has_names_alone(pypi, client):
    pypi.speaks_json = False
    assert read(client) == [("Six", None), ("Zope.Interface", None)]


def test_a_project_in_quarantine_is_not_listed_and_an_archived_one_is(pypi, client):
    pypi.catalogue = HISTORY.then(Quarantined("six")).then(Archived("zope.interface"))
    assert read(client) == [("Zope.Interface", 1)]


def test_an_index_may_be_empty(pypi, client):
    pypi.catalogue = History()
    assert read(client) == []


def test_the_list_may_come_compressed(pypi, client):
    pypi.packs = True
    assert read(client) == SERIALS


def test_a_long_list_needs_no_more_memory_than_a_short_one(pypi, client):
    pypi.catalogue = Generated(50_000)
    reader = client.serials()
    list(islice(reader, 1_000))  # all that is made once
    tracemalloc.start()
    try:
        assert sum(1 for _ in reader) == 49_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000  # that of the server included
    finally:
        tracemalloc.stop()


def test_pages_can_be_asked_for_while_the_list_is_read(client):
    assert [client.project(name).serial for name, _ in client.serials()] == [3, 1]


@pytest.mark.parametrize(
    ("entry", "serials"),
    [
        (b'{"name":"a"}', [("a", None)]),
        (b'{"name":"a","_last-serial":null}', [("a", None)]),
        (b'{"name":"a","_last-serial":"7"}', [("a", None)]),
        (b'{"name":"a","_last-serial":7.5}', [("a", None)]),
        (b'{"name":"a","_last-serial":true}', [("a", None)]),
        (b'{"name":"a","_last-serial":-1}', [("a", None)]),
        (b'{"name":"a","_last-serial":1e99}', [("a", None)]),
        (b'{"name":"a","_last-serial":{"deep":[7]}}', [("a", None)]),
        (b'{"name":"a","more":{"name":"b"},"_last-serial":7}', [("a", 7)]),
        (b'{"_last-serial":7}', []),
        (b'{"name":7}', []),
        (b'{"name":""}', []),
        (b'{"name":"../etc"}', []),
        (b'{"name":"a\\u0000"}', []),
        (b'{"name":"' + b"a" * 256 + b'"}', []),
        (b'"a"', []),
        (b'[{"name":"a"}]', []),
        (b"null", []),
    ],
)
def test_an_odd_entry_does_not_stop_the_rest(pypi, client, entry, serials):
    content = HEAD + entry + b',{"name":"z","_last-serial":1}]}'
    pypi.fail("/simple/", Answer(content, JSON))
    assert read(client) == [*serials, ("z", 1)]


def test_impossible_names_are_counted(pypi, client, caplog):
    pypi.fail("/simple/", Answer(HEAD + b'{"name":"/"},{"name":"a"},{"name":""}]}', JSON))
    assert read(client) == [("a", None)]
    assert "2 of the projects" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"<html>",
        b'{"projects":{"a":1}}',
        b'{"projects":null}',
        b'{"meta":{"projects":[{"name":"a"}]}}',
        HEAD,
        HEAD + b'{"name":"a"}',
        HEAD + b'{"name":"a"},]}',
        HEAD + b'{"name":"a"}]} {',
        HEAD + b'{"name":"\xff"}]}',
        HEAD + b'{"name":"a","_last-serial":' + b"9" * 24 + b"}]}",
        HEAD + b'{"name":"a","_last-serial":' + b"9" * 10_000 + b"}]}",
        HEAD + b"[" * 100_000,
        HEAD + b"[" * 500_000,
        HEAD + b'{"a":' * 20_000,
    ],
)
def test_what_is_no_list_or_not_all_of_it_is_said_to_be(pypi, client, content):
    pypi.fail("/simple/", Answer(content, JSON))
    with pytest.raises(Unavailable, match=r"list of all projects .* cannot be read"):
        read(client)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html><body>Welcome</body></html>", HTML),
        Answer(b"", HTML),
        Answer(HEAD + b"]}", "text/plain"),
        Answer(HEAD + b"]}", "application/vnd.pypi.simple.v2+json"),
        Answer(HEAD + b"]}", "no type"),
        Answer(b"<a>six</a>", f"{HTML}; charset=no-such-charset"),
        Answer(b'<meta name="pypi:repository-version" content="2.0"><a>six</a>', HTML),
    ],
)
def test_a_page_of_another_kind_is_not_taken_for_an_empty_list(pypi, client, answer):
    pypi.fail("/simple/", answer)
    with pytest.raises(Unavailable, match=r"list of all projects .* cannot be read"):
        read(client)


@pytest.mark.parametrize(
    ("begin", "content_type"),
    [
        (HEAD + b'{"name":"', JSON),
        (HEAD + b'{"more":[', JSON),
        (b"<a>six</a><a>", HTML),
        (b"<a>six</a><!-- ", HTML),
    ],
)
def test_an_entry_without_end_is_given_up(pypi, client, begin, content_type):
    pypi.fail("/simple/", Answer(chain([begin], repeat(b"1," * 10_000)), content_type))
    with pytest.raises(Unavailable, match="one entry has more than"):
        read(client)


def test_a_list_without_end_is_given_up(pypi, client):
    client.patience = 0.2
    entries = (b'{"name":"a%d"},' % number * 1_000 for number in count())
    pypi.fail("/simple/", Answer(chain([HEAD], entries), JSON))
    with pytest.raises(Unavailable, match="too slowly"):
        for _ in client.serials():
            pass


@pytest.mark.parametrize("after", [0, 20, 200, None])
def test_a_connection_that_is_cut_anywhere_is_an_error_and_no_end(pypi, client, after):
    pypi.fail("/simple/", Cut(after))
    with pytest.raises(Unavailable):
        read(client)


@pytest.mark.parametrize("after", [None, 300])
def test_html_that_is_cut_is_an_error_and_no_end(pypi, client, after):
    pypi.speaks_json = False
    pypi.catalogue = Generated(1_000)
    pypi.fail("/simple/", Cut(after))
    with pytest.raises(Unavailable):
        read(client)


@pytest.mark.parametrize("after", [0, 20, 200])
def test_a_server_that_stalls_is_given_up(pypi, client, after):
    pypi.fail("/simple/", Stall(after))
    with pytest.raises(Unavailable, match="timed out"):
        read(client)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(pypi, client):
    client.patience = 0.1
    pypi.fail("/simple/", Trickle())
    with pytest.raises(Unavailable):
        read(client)


@pytest.mark.parametrize("status", [301, 304, 403, 404, 500, 503])
def test_an_index_that_does_not_answer_has_no_list(pypi, client, status):
    pypi.fail("/simple/", Answer(status=status))
    with pytest.raises(Unavailable, match=f"answers {status}"):
        read(client)


def test_an_index_that_wants_to_be_left_alone_says_how_long(pypi, client):
    pypi.fail("/simple/", limited("7"))
    with pytest.raises(RateLimited) as caught:
        read(client)
    assert caught.value.seconds == 7.0


def test_the_rest_may_be_left_unread(pypi, client):
    pypi.catalogue = Generated(50_000)
    serials = client.serials()
    assert next(serials)[0] == "Generated_0000000"
    serials.close()
    assert client.project("generated-0000001").serial is not None
