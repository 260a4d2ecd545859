"""From the root page of the simple API to its projects, as it comes: memory stays flat."""

import codecs
import logging
from collections.abc import Iterable, Iterator

import ijson
from mailbits import ContentType
from pypi_simple import parse_links_stream

from piwheels.model.names import is_name
from piwheels.pypi.page import HTML, JSON

LARGEST_SERIAL = 2**63 - 1  # the database's limit
LONGEST_ENTRY = 200_000  # bytes between the end of one project and the end of the next

logger = logging.getLogger(__name__)


def read_root(content_type: str, chunks: Iterable[bytes]) -> Iterator[tuple[str, int | None]]:
    """Yield name and serial of each project; HTML has no serials. Names that are none are counted.

    Raise ValueError if it is no root page, or not all of one.
    """
    kind = ContentType.parse(content_type)
    body = _Body(chunks)
    if kind.content_type == JSON:
        entries = _json_entries(body)
    elif kind.content_type in HTML:
        entries = _html_entries(body, kind.params.get("charset", "utf-8"))
    else:
        raise ValueError(f"the content type is {content_type[:100]}")
    left_out = 0
    for name, serial in entries:
        body.since_entry = 0
        if is_name(name):
            yield name, serial
        else:
            left_out += 1
    if left_out:
        logger.warning("%d of the projects in the list of all have impossible names", left_out)


class _Body:
    """The chunks of a body as a file. Raise ValueError where an entry does not end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = iter(chunks)
        self.since_entry = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next chunk, whatever its size, b"" at the end; b"" for size 0."""
        if size == 0:
            return b""
        chunk = next(self.chunks, b"")
        self.since_entry += len(chunk)
        if self.since_entry > LONGEST_ENTRY:
            raise ValueError(f"one entry has more than {LONGEST_ENTRY} bytes")
        return chunk


def _json_entries(body: _Body) -> Iterator[tuple[object, int | None]]:
    """From events, never from whole values: a stranger chose how large and deep those are.

    Depths: 1, the page; 2, its list of projects; 3, one of them.
    """
    depth = 0
    top = key = None
    is_list = is_entry = was_list = False
    name = serial = None
    for event, value in _events(body):
        match event:
            case "map_key" if depth == 1:
                top = value
            case "map_key":
                key = value
            case "start_map" | "start_array":
                depth += 1
                if depth == 2:
                    is_list = top == "projects" and event == "start_array"
                    was_list = was_list or is_list
                elif depth == 3:
                    is_entry = is_list and event == "start_map"
                    name = serial = None
            case "end_map" | "end_array":
                if depth == 3 and is_entry:
                    yield name, _serial(serial)
                depth -= 1
            case _ if depth == 3 and key == "name":
                name = value
            case _ if depth == 3 and key == "_last-serial":
                serial = value
    if not was_list:
        raise ValueError("it lists no projects")  # or all of them would seem to be gone


def _events(body: _Body) -> Iterator[tuple[str, object]]:
    """Without paths, which take the square of the depth; see ijson.basic_parse.

    Numbers are those of C: at digits without end the fast parser crashes the process.
    """
    try:
        yield from ijson.basic_parse(body, use_float=True)
    except ijson.JSONError as error:
        raise ValueError(str(error)) from error


def _html_entries(body: _Body, charset: str) -> Iterator[tuple[object, None]]:
    """Raise ValueError if there is no link at all: any page of HTML would do."""
    try:
        decoder = codecs.getincrementaldecoder(charset)("replace")
    except LookupError as error:
        raise ValueError(f"the character set is {charset[:100]}") from error
    is_empty = True
    texts = (decoder.decode(chunk) for chunk in iter(body.read, b""))
    for link in parse_links_stream(texts):
        is_empty = False
        yield link.text, None
    if is_empty:
        raise ValueError("it lists no projects")


def _serial(value: object) -> int | None:
    """A number below 0 or too large to store is none."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SERIAL:
        return value
    return None
