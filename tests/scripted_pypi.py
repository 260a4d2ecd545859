"""A PyPI for tests: what a History says, over real http, with every fault that is asked for.

    python -m tests.scripted_pypi FOLDER --port 8080       the sdists and wheels in a folder
    python -m tests.scripted_pypi SCRIPT.py --port 8080    the history that it calls `history`
    python -m tests.scripted_pypi --generated 100000 --port 8080

It serves the simple API below /simple/, the journal at /pypi, files below /files/.
"""

import argparse
import asyncio
import gzip
import json
import runpy
import xmlrpc.client
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from hashlib import blake2b
from html import escape
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Protocol
from urllib.parse import unquote

from packaging.utils import canonicalize_name
from pypi_simple import parse_filename

from tests.generated import Generated
from tests.history import API_VERSION, File, History, Page, Row
from tests.pypi_server import HTML, JSON, as_html
from tests.sdists import PACKAGES, make_sdist

ROWS = 50_000  # PyPI's limit for one answer
PORTION = 500  # projects or rows between two turns of other connections
XML = "text/xml"
FILES = (".tar.gz", ".zip", ".whl")


class Catalogue(Protocol):
    """What is served: see History."""

    def last_serial(self) -> int: ...
    def rows(self, since: int) -> Iterator[Row]: ...
    def serials(self) -> Iterator[tuple[str, int]]: ...
    def page(self, package: str, files_url: str, serial: int | None = None) -> Page | None: ...
    def content(self, filename: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, of whatever truth. content: as a whole, or in portions that are sent chunked."""

    content: bytes | Iterable[bytes] = b""
    content_type: str = HTML
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


def limited(retry_after: str = "") -> Answer:
    """Too many requests."""
    return Answer(status=429, headers=(("Retry-After", retry_after),) if retry_after else ())


def fault(code: int, text: str) -> Answer:
    """A fault of XML-RPC."""
    return Answer(xmlrpc.client.dumps(xmlrpc.client.Fault(code, text)).encode(), XML)


@dataclass(frozen=True, slots=True)
class Stale:
    """The page as it was at *serial*, and with that serial's header: a cache's old copy."""

    serial: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The true answer, but the connection ends after so many bytes of it (None: of its half)."""

    after: int | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing more, for as long as the client waits, after so many bytes of the true answer."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Trickle:
    """A space every so many seconds, and never an end."""

    seconds: float = 0.005


@dataclass(slots=True)
class Fault:
    """What happens to requests for a path. path: a pattern. times: how often; None: always."""

    path: str
    what: Answer | Stale | Cut | Stall | Trickle
    times: int | None = None


@dataclass
class ScriptedPyPI:
    """What is served; tests change it while it runs.

    plan: the first fault that fits a request is used. asked: paths in the order of the requests.
    connections: how many there were. speaks_json: whether there are JSON pages. packs: whether
    bodies are compressed for clients that can read that.
    """

    catalogue: Catalogue = field(default_factory=History)
    url: str = ""
    plan: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    connections: int = 0
    speaks_json: bool = True
    packs: bool = False

    @property
    def simple_url(self) -> str:
        """The address of the index."""
        return f"{self.url}/simple/"

    @property
    def journal_url(self) -> str:
        """The address of the journal."""
        return f"{self.url}/pypi"

    def fail(
        self, path: str, what: Answer | Stale | Cut | Stall | Trickle, times: int | None = None
    ) -> None:
        """Plan a fault."""
        self.plan.append(Fault(path, what, times))

    def next_fault(self, path: str) -> Answer | Stale | Cut | Stall | Trickle | None:
        """The fault that the plan has for a request, which is then used."""
        for planned in self.plan:
            if planned.times != 0 and fnmatchcase(path, planned.path):
                if planned.times is not None:
                    planned.times -= 1
                return planned.what
        return None

    def answer(self, request: "Request", serial: int | None = None) -> Answer:
        """The true answer. serial: as of which pages are; None: as they are now."""
        match request.path.strip("/").split("/"):
            case ["pypi"]:
                return self._journal(request)
            case ["simple"]:
                return self._root(request)
            case ["simple", name]:
                return self._page(request, canonicalize_name(name), serial)
            case ["files", name]:
                content = self.catalogue.content(name)
                if content is not None:
                    return Answer(content, "application/octet-stream")
        return Answer(status=404)

    def _journal(self, request: "Request") -> Answer:
        if request.method != "POST":
            return Answer(status=405)
        arguments, method = xmlrpc.client.loads(request.content)
        match method, arguments:
            case "changelog_last_serial", ():
                last = self.catalogue.last_serial()
                return Answer(xmlrpc.client.dumps((last,), methodresponse=True).encode(), XML)
            case "changelog_since_serial", (int(serial),):
                rows = islice(self.catalogue.rows(serial), ROWS)
                return Answer(portions(XML_ROWS, map(_row_as_xml, rows)), XML)
            case "list_packages_with_serial", ():
                members = map(_project_as_xml, self.catalogue.serials())
                return Answer(portions(XML_STRUCT, members), XML)
        return fault(-32601, "server error; requested method not found")

    def _root(self, request: "Request") -> Answer:
        serials = self.catalogue.serials()
        if self._wants_json(request):
            last = self.catalogue.last_serial()
            meta = json.dumps({"_last-serial": last, "api-version": API_VERSION})
            projects = (
                f'{"," if number else ""}{{"_last-serial":{serial},"name":{json.dumps(name)}}}'
                for number, (name, serial) in enumerate(serials)
            )
            return Answer(portions((f'{{"meta":{meta},"projects":[', "]}"), projects), JSON)
        links = (
            f'<a href="/simple/{canonicalize_name(name)}/">{escape(name)}</a><br/>\n'
            for name, _ in serials
        )
        return Answer(portions(("<!DOCTYPE html><html><body>\n", "</body></html>"), links), HTML)

    def _page(self, request: "Request", package: str, serial: int | None) -> Answer:
        page = self.catalogue.page(package, f"{self.url}/files/", serial)
        if page is None:
            return Answer(status=404)
        is_json = self._wants_json(request)
        content = (json.dumps(page) if is_json else as_html(page)).encode()
        tag = f'"{blake2b(content, digest_size=16).hexdigest()}"'
        headers = (("X-PyPI-Last-Serial", str(page["meta"]["_last-serial"])), ("ETag", tag))
        if request.headers.get("if-none-match") == tag:
            return Answer(status=304, headers=headers)
        return Answer(content, JSON if is_json else HTML, headers=headers)

    def _wants_json(self, request: "Request") -> bool:
        return self.speaks_json and JSON in request.headers.get("accept", "")


XML_ROWS = (
    "<?xml version='1.0'?>\n<methodResponse><params><param><value><array><data>\n",
    "</data></array></value></param></params></methodResponse>\n",
)
XML_STRUCT = (
    "<?xml version='1.0'?>\n<methodResponse><params><param><value><struct>\n",
    "</struct></value></param></params></methodResponse>\n",
)


def _row_as_xml(row: Row) -> str:
    """As xmlrpc.client writes it, which is too slow for 50,000."""
    name, version, seconds, action, serial = row
    return (
        f"<value><array><data><value><string>{escape(name)}</string></value>\n"
        + ("<value><nil/></value>\n" if version is None else f"<value><string>{escape(version)}")
        + ("" if version is None else "</string></value>\n")
        + f"<value><int>{seconds}</int></value>\n<value><string>{escape(action)}</string></value>\n"
        f"<value><int>{serial}</int></value>\n</data></array></value>\n"
    )


def _project_as_xml(project: tuple[str, int]) -> str:
    name, serial = project
    return f"<member><name>{escape(name)}</name><value><int>{serial}</int></value></member>\n"


def portions(ends: tuple[str, str], items: Iterator[str]) -> Iterator[bytes]:
    """Yield both *ends* and what is between them, in portions."""
    yield ends[0].encode()
    while portion := "".join(islice(items, PORTION)):
        yield portion.encode()
    yield ends[1].encode()


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks. path: unquoted. headers: by name in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes


class Server:
    """The shell: HTTP/1.1 with connections that stay, on the event loop that runs it."""

    def __init__(self, pypi: ScriptedPyPI) -> None:
        self.pypi = pypi

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.pypi.connections += 1
        try:
            while (request := await _read(reader)) is not None:
                self.pypi.asked.append(request.path)
                what = self.pypi.next_fault(request.path)
                match what:
                    case None:
                        await self.send(request, self.pypi.answer(request), writer)
                    case Answer():
                        await self.send(request, what, writer)
                    case Stale(serial):
                        await self.send(request, self.pypi.answer(request, serial), writer)
                    case _:
                        await self.fail(request, what, reader, writer)
                        return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client's right
        finally:
            writer.transport.abort()

    async def send(self, request: Request, answer: Answer, writer: asyncio.StreamWriter) -> None:
        for data in self.bytes_of(request, answer):
            writer.write(data)
            await writer.drain()

    async def fail(
        self,
        request: Request,
        what: Cut | Stall | Trickle,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Begin with the truth and do not end with it; the connection is over then."""
        true = b"".join(self.bytes_of(request, self.pypi.answer(request)))
        match what:
            case Cut(after):
                body = true.index(b"\r\n\r\n") + 4
                writer.write(true[: body + (len(true) - body) // 2 if after is None else after])
                await writer.drain()
                writer.close()  # in order, so that what was sent arrives
                await writer.wait_closed()
            case Stall(after):
                writer.write(true[:after])
                await reader.read()  # until the client goes
            case Trickle(seconds):
                writer.write(true[: true.index(b"\r\n") + 2])
                writer.write(b"Content-Type: application/json\r\nContent-Length: 9999999\r\n\r\n")
                while not reader.at_eof():
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(seconds)

    def bytes_of(self, request: Request, answer: Answer) -> Iterator[bytes]:
        """Yield *answer* as it is sent."""
        phrase = HTTPStatus(answer.status).phrase
        head = f"HTTP/1.1 {answer.status} {phrase}\r\nContent-Type: {answer.content_type}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        content = answer.content
        if self.pypi.packs and "gzip" in request.headers.get("accept-encoding", ""):
            content = gzip.compress(content if isinstance(content, bytes) else b"".join(content))
            head += "Content-Encoding: gzip\r\n"
        if isinstance(content, bytes):
            yield f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
            return
        yield f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
        for portion in content:
            yield b"%x\r\n%b\r\n" % (len(portion), portion)
        yield b"0\r\n\r\n"


async def _read(reader: asyncio.StreamReader) -> Request | None:
    """The next request, None if there is none any more."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, unquote(target.partition("?")[0]), headers, content)


@contextmanager
def scripted_pypi(catalogue: Catalogue | None = None) -> Iterator[ScriptedPyPI]:
    """Serve on a free port of this machine until the block ends."""
    pypi = ScriptedPyPI(catalogue or History())
    is_up = Event()
    ends: list[Callable[[], object]] = []

    async def run() -> None:
        ended = asyncio.Event()
        ends.append(partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set))
        await listen(pypi, 0)
        is_up.set()
        await ended.wait()

    thread = Thread(target=asyncio.run, args=(run(),))
    thread.start()
    is_up.wait()
    try:
        yield pypi
    finally:
        for end in ends:
            end()
        thread.join()


async def listen(pypi: ScriptedPyPI, port: int) -> None:
    """Begin to serve; port 0: a free one."""
    server = await asyncio.start_server(Server(pypi).serve, "127.0.0.1", port)
    pypi.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def history_of(folder: Path) -> History:
    """The history in which the sdists and wheels of *folder* were released, by name.

    Folders with a PKG-INFO become sdists first, as tests/packages does.
    """
    with TemporaryDirectory() as made:
        sources = [path.parent for path in folder.glob("*/PKG-INFO")]
        paths = [make_sdist(source, Path(made)) for source in sources]
        paths += [path for path in folder.iterdir() if path.name.endswith(FILES)]
        history = History()
        for path in sorted(paths, key=lambda path: path.name):
            name, version, _ = parse_filename(path.name)
            history = history.add(name, version, File(path.name, path.read_bytes()))
    return history


def catalogue_of(arguments: argparse.Namespace) -> Catalogue:
    """What the command line asks for."""
    if arguments.generated is not None:
        return Generated(arguments.generated, arguments.seed)
    if arguments.source.is_dir():
        return history_of(arguments.source)
    return runpy.run_path(str(arguments.source))["history"]


async def serve_for_ever(pypi: ScriptedPyPI, port: int, releases_per_second: float) -> None:
    """Serve, and let generated projects release versions."""
    await listen(pypi, port)
    print(f"--pypi {pypi.simple_url}  (journal: {pypi.journal_url})", flush=True)
    while True:
        await asyncio.sleep(1 / releases_per_second if releases_per_second else 3600)
        if releases_per_second and isinstance(pypi.catalogue, Generated):
            pypi.catalogue.release()


def main() -> None:
    """Serve until Ctrl+C."""
    parser = argparse.ArgumentParser("python -m tests.scripted_pypi", description=__doc__)
    parser.add_argument("source", type=Path, nargs="?", default=PACKAGES, metavar="FOLDER|SCRIPT")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--generated", type=int, metavar="PROJECTS")
    parser.add_argument("--seed", type=int, default=0, help="of the generated projects")
    parser.add_argument(
        "--releases", type=float, default=0.0, help="a second, of generated projects"
    )
    arguments = parser.parse_args()
    pypi = ScriptedPyPI(catalogue_of(arguments))
    with suppress(KeyboardInterrupt):
        asyncio.run(serve_for_ever(pypi, arguments.port, arguments.releases))


if __name__ == "__main__":
    main()
