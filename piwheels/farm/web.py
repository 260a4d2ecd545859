"""The web server of a farm on one machine: the web tree, and nothing else.

A public farm is served by nginx, Apache or Caddy. This server keeps the same promises, so
that pip, uv and people need nothing more to use a farm that was started a minute ago.
"""

import errno
import gzip
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

import waitress
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    RequestedRangeNotSatisfiable,
)
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import wrap_file

from piwheels.model.errors import BadName, PiwheelsError
from piwheels.model.names import normalize

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

V1_HTML = "application/vnd.pypi.simple.v1+html"
V1_JSON = "application/vnd.pypi.simple.v1+json"

# What a client may ask of the simple index, and what it gets; the first one where it is
# indifferent (PEP 691).
SIMPLE_PAGES = {
    "text/html": "index.html",
    V1_HTML: "index.v1_html",
    V1_JSON: "index.v1_json",
    "application/vnd.pypi.simple.latest+html": "index.v1_html",
    "application/vnd.pypi.simple.latest+json": "index.v1_json",
}

PLAIN_TEXT = "text/plain; charset=utf-8"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".v1_html": V1_HTML,
    ".v1_json": V1_JSON,
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".xml": "application/xml",
    ".svg": "image/svg+xml",
    ".metadata": PLAIN_TEXT,
    ".gz": "application/gzip",
}
IMMUTABLE = (".whl", ".metadata", ".txt.gz")
LOG = ".txt.gz"

FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"  # keep it, but ask: a wheel built a second ago can be installed

# Logs, summaries and reasons come from strangers: no browser is to run anything of theirs.
SAFETY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

THREADS = 8
BLOCK = 2**16  # bytes of a log that are decompressed at a time
LARGEST_REQUEST_BODY = 2**16  # bytes; no request has a use for one
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EACCES)


class PortTaken(PiwheelsError):
    """The address cannot be listened on. Its text says what to do."""


def application(root: Path) -> "WSGIApplication":
    """The web tree below *root* as a WSGI application."""

    @Request.application
    def answer(request: Request) -> Response:
        try:
            response = _answer(root, request)
        except NotFound:
            response = _not_found(root)
        except HTTPException as error:
            response = Response.force_type(error.get_response(request.environ), request.environ)
        response.headers.extend(SAFETY)
        return response

    return answer


def listen(host: str, port: int) -> socket.socket:
    """Take *port*, 0 for any free one, before anything else is begun. Raise PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise PortTaken(_advice(host, port, error)) from error


def serve(root: Path, listener: socket.socket, ready: Callable[[], object]) -> None:
    """Serve the tree below *root* until SIGTERM or SIGINT. Call it in the main thread.

    ready: called once clients are answered.
    """
    with _interrupted_by(signal.SIGTERM, signal.SIGINT):
        server = waitress.create_server(
            application(root),
            sockets=[listener],
            threads=THREADS,
            ident=None,
            max_request_body_size=LARGEST_REQUEST_BODY,
        )
        try:
            ready()
            server.run()
        finally:
            server.close()


def _answer(root: Path, request: Request) -> Response:
    if request.method not in ("GET", "HEAD"):
        raise MethodNotAllowed(["GET", "HEAD"])
    names = [name for name in request.path.split("/") if name]
    if any(name.startswith(".") or "\0" in name for name in names):
        raise NotFound  # the parent folder, or what a writer has not finished
    address = _address(root, names, is_folder=request.path.endswith("/"))
    if address != request.path:
        return _redirection(request.root_path.rstrip("/") + quote(address))
    path = root.joinpath(*names)
    if not address.endswith("/"):
        return _file(request, path)
    if names[:1] == ["simple"] and len(names) <= 2:
        return _simple_page(request, path)
    return _file(request, path / "index.html")


def _address(root: Path, names: Sequence[str], is_folder: bool) -> str:
    """The one address of what *names* lead to.

    Packages go by their normalized name, folders have a slash at the end: the links in their
    pages are relative.
    """
    path = root.joinpath(*names)
    is_package = len(names) >= 2 and names[0] in ("simple", "project") and not os.path.isfile(path)
    if is_package:
        names = [names[0], _normalized(names[1]), *names[2:]]
    is_folder = is_folder or (is_package and len(names) == 2) or os.path.isdir(path)
    return "/" + "/".join(names) + ("/" if is_folder and names else "")


def _normalized(name: str) -> str:
    try:
        return normalize(name)
    except BadName as error:
        raise NotFound from error


def _redirection(address: str) -> Response:
    return Response(
        status=HTTPStatus.MOVED_PERMANENTLY,
        headers={"Location": address, "Cache-Control": ASK_AGAIN},
    )


def _simple_page(request: Request, folder: Path) -> Response:
    """The page of *folder* in the form that the client likes best."""
    wanted = request.accept_mimetypes
    form = wanted.best_match(SIMPLE_PAGES) if wanted else "text/html"
    if form is None:
        if not os.path.isfile(folder / "index.html"):
            raise NotFound  # uv looks on at another index, which 406 would keep it from
        choice = f"This page comes as {', '.join(SIMPLE_PAGES)}.\n"
        refusal = Response(choice, HTTPStatus.NOT_ACCEPTABLE, {"Vary": "Accept"})
        raise NotAcceptable(response=refusal)
    response = _file(request, folder / SIMPLE_PAGES[form])
    response.vary.add("Accept")
    return response


def _file(request: Request, path: Path) -> Response:
    """The file at *path*, or its .gz variant to a client that takes it. Raise NotFound."""
    if path.name.endswith(LOG):
        return _log(request, path)
    packed = path.with_name(f"{path.name}.gz")
    has_variant = os.path.isfile(packed)
    if has_variant and _takes_gzip(request):
        opened = _open(packed)
        encoding = "gzip"
    else:
        opened = _open(path)
        encoding = ""
    response = _whole_or_part(request, opened, _headers(path.name, encoding))
    if has_variant:
        response.vary.add("Accept-Encoding")
    return response


def _log(request: Request, path: Path) -> Response:
    """A log, which lies in the tree compressed, as the text that it is."""
    opened = _open(path)
    if _takes_gzip(request):
        response = _whole_or_part(request, opened, _headers(path.name, "gzip"))
    else:
        text = iter(partial(gzip.GzipFile(fileobj=opened.file).read, BLOCK), b"")
        response = Response(text, headers=_headers(path.name, ""))
        response.call_on_close(opened.file.close)
        response.set_etag(f"{opened.etag}-text")
        response.make_conditional(request.environ)
    response.vary.add("Accept-Encoding")
    return response


def _headers(name: str, encoding: str) -> dict[str, str]:
    content_type = CONTENT_TYPES.get(os.path.splitext(name)[1], "application/octet-stream")
    headers = {
        "Content-Type": PLAIN_TEXT if name.endswith(LOG) else content_type,
        "Cache-Control": FOR_EVER if name.endswith(IMMUTABLE) else ASK_AGAIN,
    }
    return headers | ({"Content-Encoding": encoding} if encoding else {})


def _takes_gzip(request: Request) -> bool:
    accepted = request.accept_encodings
    return accepted.quality("gzip") > 0 and accepted.best_match(["gzip", "identity"]) == "gzip"


@dataclass(frozen=True, slots=True)
class _Opened:
    """An open file and what was true of it then: a writer may put another in its place."""

    file: IO[bytes]
    size: int
    etag: str
    modified: float


def _open(path: Path) -> _Opened:
    """Open a published file. Raise NotFound where there is none."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - the response closes it
    except OSError as error:
        if error.errno in ABSENT:
            raise NotFound from error
        raise
    stat = os.fstat(file.fileno())
    return _Opened(
        file,
        stat.st_size,
        # The inode tells pages of equal size apart that were written within one tick.
        f"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}",
        stat.st_mtime,
    )


def _whole_or_part(request: Request, opened: _Opened, headers: dict[str, str]) -> Response:
    """The file, a range of it, or word that the client's copy is current.

    werkzeug's send_file() asks for a path's size and opens it afterwards, and would cut off
    a page that is replaced in between.
    """
    content = wrap_file(request.environ, opened.file)
    response = Response(content, headers=headers, direct_passthrough=True)
    response.call_on_close(opened.file.close)
    response.content_length = opened.size
    response.last_modified = datetime.fromtimestamp(opened.modified, UTC)
    response.set_etag(opened.etag)
    try:
        response.make_conditional(request.environ, True, opened.size)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    return response


def _not_found(root: Path) -> Response:
    """The tree's own page for what is missing. Not to be kept: the wheel may come any minute."""
    try:
        page = (root / "404.html").read_bytes()
    except FileNotFoundError:
        page = b"There is nothing here.\n"
    content_type = CONTENT_TYPES[".html"] if page.startswith(b"<") else PLAIN_TEXT
    return Response(
        page, HTTPStatus.NOT_FOUND, {"Cache-Control": ASK_AGAIN}, content_type=content_type
    )


def _advice(host: str, port: int, error: OSError) -> str:
    where = f"port {port} of {host}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is taken: stop what listens there, or choose another port"
    if error.errno == errno.EACCES:
        return f"{where} is reserved for root: choose a port above 1023"
    return f"cannot listen on {where} ({error.strerror}): choose an address of this machine"


@contextmanager
def _interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Let any of *signals* end the server's loop, and nothing beyond this block."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # at which waitress finishes what it is answering

    before = {number: signal.signal(number, stop) for number in signals}
    try:
        yield
    except KeyboardInterrupt:  # before or after the loop
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
