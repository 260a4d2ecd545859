"""Reading a journal, over real http, from a PyPI that may say anything."""

import socket
import xmlrpc.client
from itertools import chain, repeat

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from piwheels.model.errors import Unavailable
from piwheels.pypi import Journal, JournalEntry, NoJournal, RateLimited, journal_url
from piwheels.pypi.journal import JOURNAL_URL
from tests.generated import Generated
from tests.history import Archived, History, RoleChanged
from tests.scripted_pypi import (
    ROWS,
    XML,
    XML_ROWS,
    Answer,
    Cut,
    Stall,
    Trickle,
    fault,
    limited,
    scripted_pypi,
)

SIX = History().release("Six", "1.0").then(RoleChanged("six"), gap=3)
SIX_ENTRIES = [JournalEntry("Six", 1), JournalEntry("Six", 2), JournalEntry("six", 6)]


@pytest.fixture
def pypi():
    with scripted_pypi(SIX) as pypi:
        yield pypi


@pytest.fixture
def journal(pypi):
    timeouts = (5.0, 0.2)
    with Journal(pypi.journal_url, pause=0.0, timeouts=timeouts, patience=5.0) as journal:
        yield journal


def says(value):
    return Answer(xmlrpc.client.dumps((value,), methodresponse=True, allow_none=True).encode(), XML)


def row(name="six", serial=9):
    return [name, "1.0", 1_700_000_000, "new release", serial]


def test_entries_are_spelled_as_they_were_and_ascend(journal):
    assert journal.since(0) == SIX_ENTRIES


def test_only_what_came_after_a_serial_is_given(journal):
    assert journal.since(2) == SIX_ENTRIES[2:]
    assert journal.since(6) == []


def test_the_last_serial_is_known_even_of_an_empty_journal(pypi, journal):
    assert journal.last_serial() == 6
    pypi.catalogue = History()
    assert (journal.last_serial(), journal.since(0)) == (0, [])


def test_what_writes_no_row_is_not_seen(pypi, journal):
    pypi.catalogue = SIX.then(Archived("six"))
    assert journal.since(6) == []


def test_names_may_hold_what_xml_gives_a_meaning_to(pypi, journal):
    pypi.fail("/pypi", says([row("a<b&c>"), row("six")]))
    assert journal.since(0) == [JournalEntry("six", 9)]


def test_a_long_journal_is_read_in_several_turns(pypi, journal):
    pypi.catalogue = Generated(2_000)
    journal.patience = 600.0
    first = journal.since(0)
    assert len(first) == ROWS
    rest = journal.since(first[-1].serial)
    expected = [JournalEntry(row[0], row[4]) for row in pypi.catalogue.rows(0)]
    assert first + rest == expected[: ROWS + len(rest)]


def test_a_journal_may_come_compressed(pypi, journal):
    pypi.packs = True
    assert journal.since(0) == SIX_ENTRIES


def test_who_asks_is_said(pypi):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/pypi"
        journal = Journal(url, "farm of test", 0.0, timeouts=(5.0, 0.1))
        with journal, pytest.raises(Unavailable):
            journal.last_serial()
        client, _ = server.accept()
        with client:
            assert b"User-Agent: farm of test\r\n" in client.recv(10_000)


def test_many_questions_need_one_connection(pypi, journal):
    for _ in range(5):
        journal.since(0)
    assert pypi.connections == 1


def test_the_address_follows_from_that_of_the_index():
    assert journal_url("https://index.example/simple/") == "https://index.example/pypi"
    assert journal_url(PYPI_SIMPLE_ENDPOINT) == JOURNAL_URL


@pytest.mark.parametrize(
    "odd",
    [
        [],
        "six",
        None,
        row()[:4],
        [*row(), 1],
        row(serial="9"),
        row(serial=9.0),
        row(serial=True),
        row(serial=-1),
        row(serial=0),
        row(name=7),
        row(name=""),
        row(name="../etc"),
        row(name="x" * 256),
        row(name=["six"]),
    ],
)
def test_a_row_that_is_no_entry_is_left_out_and_the_rest_is_read(pypi, journal, odd, caplog):
    pypi.fail("/pypi", says([row("a", 8), odd, row("b", 10)]))
    assert journal.since(7) == [JournalEntry("a", 8), JournalEntry("b", 10)]
    assert "1 of 3 rows" in caplog.text


def test_rows_from_before_are_left_out(pypi, journal):
    pypi.fail("/pypi", says([row("a", 7), row("b", 8)]))
    assert journal.since(7) == [JournalEntry("b", 8)]


def test_rows_out_of_order_are_put_in_order(pypi, journal):
    pypi.fail("/pypi", says([row("b", 9), row("a", 8)]))
    assert journal.since(7) == [JournalEntry("a", 8), JournalEntry("b", 9)]


@pytest.mark.parametrize(
    "serial", ["<i8>2147483648</i8>", "<int>9{}</int>", "<double>1e999</double>"]
)
def test_a_serial_that_is_too_large_is_none(pypi, journal, serial):
    values = f"{'<value>x</value>' * 4}<value>{serial}</value>"
    odd = f"<value><array><data>{values}</data></array></value>"
    ends = [end.encode() for end in XML_ROWS]
    pypi.fail("/pypi", Answer(ends[0] + odd.format("9" * 50).encode() + ends[1], XML))
    assert journal.since(7) == []


@pytest.mark.parametrize("value", [-1, "6", 6.0, True, [6], {}, "x" * 1_000_000])
def test_a_last_serial_that_is_none_is_not_believed(pypi, journal, value):
    pypi.fail("/pypi", says(value))
    with pytest.raises(Unavailable, match="the last serial is none"):
        journal.last_serial()


@pytest.mark.parametrize("value", [7, "rows", {"rows": []}])
def test_rows_that_are_no_list_are_not_believed(pypi, journal, value):
    pypi.fail("/pypi", says(value))
    with pytest.raises(Unavailable, match="the rows are no list"):
        journal.since(0)


@pytest.mark.parametrize("status", [403, 404, 405, 410, 501])
def test_a_mirror_keeps_no_journal(pypi, journal, status):
    pypi.fail("/pypi", Answer(status=status))
    with pytest.raises(NoJournal, match=f"answers {status} .*: it keeps no journal"):
        journal.last_serial()
    assert len(pypi.asked) == 1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-32601, "server error; requested method not found"),
        (-32500, "RuntimeError: This method has been deprecated and removed."),
        (-32500, "PyPI no longer supports XMLRPC changelog_since_serial"),
        (1, "Unknown method changelog_last_serial"),
    ],
)
def test_a_method_that_is_gone_means_that_there_is_no_journal(pypi, journal, code, text):
    pypi.fail("/pypi", fault(code, text))
    with pytest.raises(NoJournal, match="keeps no journal"):
        journal.last_serial()


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><body>Welcome",
        b"<html><body>Welcome</body></html>",
        b"<?xml version='1.0'?><html/>",
        b'{"projects": []}',
        b"404 page not found\n",
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_xml_rpc_at_all_is_no_journal(pypi, journal, content):
    pypi.fail("/pypi", Answer(content))
    with pytest.raises(NoJournal, match="is no XML-RPC: check the address"):
        journal.last_serial()


def test_entities_that_would_fill_the_memory_are_not_expanded(pypi, journal):
    lols = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    bomb = (
        f'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY l0 "lol">{lols}]><methodResponse><params>'
        "<param><value><string>&l9;</string></value></param></params></methodResponse>"
    )
    pypi.fail("/pypi", Answer(bomb.encode(), XML))
    with pytest.raises(NoJournal):
        journal.last_serial()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<?x",
        b"<?xml version='1.0'?>",
        b"<methodRes",
        b"<?xml version='1.0'?><methodResponse><params><param><value><int>6</int></val",
        b"<methodResponse><params></params></methodResponse>",
        b"<methodResponse/>",
        b"<methodResponse><fault><value><int>1</int></value></fault></methodResponse>",
        b"<methodResponse><params><param><value><int>six</int></value></param></params>"
        b"</methodResponse>",
        b"<methodResponse>\0</methodResponse>",
        b"<methodResponse><string></methodResponse></string>",
        b"<methodResponse></data></methodResponse>",
    ],
)
def test_an_answer_that_is_cut_or_garbled_may_be_better_next_time(pypi, journal, content):
    pypi.fail("/pypi", Answer(content, XML))
    with pytest.raises(Unavailable, match="cannot be read"):
        journal.last_serial()


def test_an_answer_of_impossible_depth_ends(pypi, journal):
    deep = b"<methodResponse><params><param>" + b"<value><array><data>" * 100_000
    pypi.fail("/pypi", Answer(deep, XML))
    with pytest.raises(Unavailable):
        journal.since(0)


def test_an_answer_without_end_is_given_up(pypi, journal):
    journal.patience = 600.0
    pypi.fail("/pypi", Answer(chain([b"<methodResponse>"], repeat(b" " * 100_000)), XML))
    with pytest.raises(Unavailable, match=r"sends more than \d+ bytes"):
        journal.since(0)


def test_a_million_rows_do_not_stop_it(pypi, journal):
    journal.patience = 600.0
    ends = [end.encode() for end in XML_ROWS]
    rows = repeat(b"<value><array><data/></array></value>" * 1000, 1000)
    pypi.fail("/pypi", Answer(chain(ends[:1], rows, ends[1:]), XML))
    assert journal.since(0) == []


@pytest.mark.parametrize("after", [0, 1, 20, 200, None])
def test_a_connection_that_is_cut_anywhere_may_hold_next_time(pypi, journal, after):
    pypi.fail("/pypi", Cut(after))
    with pytest.raises(Unavailable):
        journal.since(0)
    pypi.plan.clear()
    assert journal.since(0) == SIX_ENTRIES


@pytest.mark.parametrize("after", [0, 20, 200])
def test_a_server_that_stalls_is_given_up(pypi, journal, after):
    pypi.fail("/pypi", Stall(after))
    with pytest.raises(Unavailable, match="timed out"):
        journal.since(0)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(pypi, journal):
    journal.patience = 0.1
    pypi.fail("/pypi", Trickle())
    with pytest.raises(Unavailable, match="too slowly"):
        journal.since(0)


@pytest.mark.parametrize("status", [400, 401, 500, 502, 503, 504])
def test_a_server_in_trouble_may_recover(pypi, journal, status):
    pypi.fail("/pypi", Answer(status=status))
    with pytest.raises(Unavailable, match=f"answers {status}"):
        journal.last_serial()


def test_a_short_trouble_is_not_noticed(pypi, journal):
    pypi.fail("/pypi", Answer(status=503), times=2)
    assert journal.last_serial() == 6


def test_a_fault_of_any_other_kind_may_pass(pypi, journal):
    pypi.fail("/pypi", fault(-32500, "RuntimeError: database\nis away"))
    with pytest.raises(Unavailable, match="database is away: try again later"):
        journal.last_serial()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("HTTPTooManyRequests: too many requests. Limit may reset in 12 seconds.", 12.0),
        ("HTTPTooManyRequests: too many requests. Limit may reset in 0 seconds.", 1.0),
        ("HTTPTooManyRequests: too many requests. Limit may reset in 99999 seconds.", 3600.0),
        ("HTTPTooManyRequests", 60.0),
    ],
)
def test_a_fault_that_asks_us_to_wait_says_how_long(pypi, journal, text, seconds):
    pypi.fail("/pypi", fault(-32500, text))
    with pytest.raises(RateLimited) as caught:
        journal.last_serial()
    assert caught.value.seconds == seconds


def test_a_status_that_asks_us_to_wait_says_how_long(pypi, journal):
    pypi.fail("/pypi", limited("7"))
    with pytest.raises(RateLimited) as caught:
        journal.last_serial()
    assert (caught.value.seconds, len(pypi.asked)) == (7.0, 1)


def test_a_journal_that_nobody_serves_is_away():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/pypi"
        with Journal(url, pause=0.0) as journal, pytest.raises(Unavailable, match="refused"):
            journal.last_serial()


def test_an_address_that_is_none_is_said_to_be():
    with Journal("no address", pause=0.0) as journal, pytest.raises(Unavailable):
        journal.last_serial()
