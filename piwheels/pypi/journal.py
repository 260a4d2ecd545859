"""PyPI's journal: every change to every project, in order, over XML-RPC."""

import logging
import re
import xmlrpc.client
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import urljoin

import requests
from defusedxml.common import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from piwheels.model.errors import Unavailable
from piwheels.model.names import is_name
from piwheels.pypi.connection import (
    UNSAID_PAUSE,
    Connection,
    bounded_pause,
    first_line,
    status_line,
)
from piwheels.pypi.errors import NoJournal, RateLimited

ROWS = 50_000  # PyPI's limit for one answer
LARGEST_ANSWER = 64 * 2**20  # bytes; so many rows have some 17 million
LARGEST_SERIAL = 2**31 - 1  # XML-RPC has no larger integers
ABSENT = (403, 404, 405, 410, 501)  # there is no XML-RPC, and there will be none tomorrow
NO_SUCH_METHOD = -32601  # XML-RPC fault code interoperability
GONE = re.compile(
    r"no longer|not supported|unsupported|removed|deprecated|(unknown|no such) method"
)
TOO_OFTEN = re.compile(r"too ?many ?requests|rate ?limit|limit may (be )?reset")
RESET = re.compile(r"([0-9]{1,9}(?:\.[0-9]+)?) ?s(?:ec|\b)")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A change to project *name*, spelled as it was then; serial: greater than all before.

    What changed is not kept: the project's page says how it is now.
    """

    name: str
    serial: int


def journal_url(simple_url: str) -> str:
    """Where the journal of the index at *simple_url* is, if it has one."""
    return urljoin(simple_url, "/pypi")


JOURNAL_URL = journal_url(PYPI_SIMPLE_ENDPOINT)


class Journal(Connection):
    """A client of the journal. Any call may raise NoJournal, RateLimited, Unavailable."""

    default_url = JOURNAL_URL

    def last_serial(self) -> int:
        """Return the serial of the last entry, 0 if there is none."""
        serial = self._call("changelog_last_serial")
        if not _is_serial(serial):
            raise self._unreadable("the last serial is none")
        return serial

    def since(self, serial: int) -> list[JournalEntry]:
        """Return the first entries after *serial* (0 to 2**31 - 1), ascending; [] if none.

        PyPI gives no more than ROWS at once: ask again after the last of them. Rows that are no
        entries are left out: the log says how many.
        """
        rows = self._call("changelog_since_serial", serial)
        if not isinstance(rows, list):
            raise self._unreadable("the rows are no list")
        entries = sorted(_entries(rows, serial), key=lambda entry: entry.serial)
        if len(entries) < len(rows):
            left_out = len(rows) - len(entries)
            logger.warning("%d of %d rows of the journal make no sense", left_out, len(rows))
        return entries

    def _call(self, method: str, *arguments: int) -> Any:
        question = xmlrpc.client.dumps(arguments, method).encode()
        headers = {"Content-Type": "text/xml", "Accept": "text/xml"}
        with self.ask(self.url, headers, question) as response:
            if response.status_code in ABSENT:
                raise NoJournal(f"{self.url} answers {status_line(response)}: it keeps no journal")
            if response.status_code != 200:
                raise Unavailable(f"{self.url} answers {status_line(response)}: try again later")
            try:
                return self._read(response)
            except xmlrpc.client.Fault as fault:
                raise self._judged(fault) from fault

    def _read(self, response: requests.Response) -> Any:
        answer = _Answer()
        parser = DefusedExpatParser(answer, forbid_dtd=True)  # so no entities, no bombs of them
        head = b""
        try:
            for chunk in self.chunks(response, LARGEST_ANSWER):
                head = head or chunk.lstrip()[:9]
                parser.feed(chunk)
            parser.close()
            (value,) = answer.close()
        except (xmlrpc.client.Fault, Unavailable):
            raise
        except Exception as error:  # the library raises whatever it stumbles over
            is_other = answer.root not in ("", "methodResponse") or not _may_be_xml_rpc(head)
            if is_other or isinstance(error, DefusedXmlException):
                raise NoJournal(
                    f"what {self.url} answers is no XML-RPC: check the address"
                ) from error
            raise self._unreadable(first_line(error)) from error
        return value

    def _judged(self, fault: xmlrpc.client.Fault) -> Exception:
        text = " ".join(str(fault.faultString).split())[:200]
        words = text.lower()
        if TOO_OFTEN.search(words):
            found = RESET.search(words)
            seconds = bounded_pause(float(found[1])) if found else UNSAID_PAUSE
            return RateLimited(f"{self.url} says: {text}", seconds)
        if fault.faultCode == NO_SUCH_METHOD or GONE.search(words):
            return NoJournal(f"{self.url} keeps no journal: {text}")
        return Unavailable(f"{self.url} says: {text}: try again later")

    def _unreadable(self, why: str) -> Unavailable:
        return Unavailable(f"what {self.url} answers cannot be read ({why}): try again later")


class _Answer(xmlrpc.client.Unmarshaller):
    """The values of an answer. root: its outermost element, "" while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.root = ""

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        """Take an element that begins."""
        self.root = self.root or tag
        super().start(tag, attrs)


def _may_be_xml_rpc(head: bytes) -> bool:
    """Whether an answer that begins so, and may have been cut there, is what we know."""
    return head.startswith((b"<?xml", b"<methodRe")) or any(
        known.startswith(head) for known in (b"<?xml", b"<methodRe")
    )


def _entries(rows: Sequence[object], after: int) -> Iterator[JournalEntry]:
    """Rows are [name, version, time in seconds, action, serial]."""
    for row in rows:
        match row:
            case [name, _, _, _, serial] if is_name(name) and _is_serial(serial):
                if serial > after:
                    yield JournalEntry(name, serial)


def _is_serial(value: object) -> TypeGuard[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        return 0 <= value <= LARGEST_SERIAL
    return False
