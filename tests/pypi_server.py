"""A small PyPI for tests: a folder of sdists and wheels behind the simple API, over real http.

It speaks for itself what real indexes say: JSON (PEP 691, 700) and HTML (PEP 503, 592).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from html import escape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

from packaging.utils import canonicalize_name
from pypi_simple import parse_filename

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "text/html"


@dataclass
class SmallPyPI:
    """What it says; tests change it while it runs.

    details: by filename, further keys of PEP 691 and 700: requires-python, yanked,
    upload-time, or hashes to lie about. projects: by normalized name, further keys of the
    page: versions, meta. statuses: by normalized name, the status to answer its page with.
    asked: paths in the order of the requests. speaks_json: whether there are JSON pages.
    before_file: called with a file's name before it is served; it may take its time.
    """

    folder: Path
    url: str = ""
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    projects: dict[str, dict[str, Any]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    speaks_json: bool = True
    before_file: Callable[[str], object] = lambda name: None

    @property
    def simple_url(self) -> str:
        """The address of the index."""
        return f"{self.url}/simple/"

    def put(self, filename: str, content: bytes = b"", **details: Any) -> None:
        """Put a file there; *details* with _ for -."""
        (self.folder / filename).write_bytes(content)
        self.details[filename] = {key.replace("_", "-"): details[key] for key in details}

    def take_away(self, filename: str) -> None:
        """Remove a file, as its author may do."""
        (self.folder / filename).unlink()

    def page(self, package: str) -> dict[str, Any] | None:
        """The page of *package* (normalized) as PEP 691 has it, or None."""
        files = [
            self._file(path) for path in sorted(self.folder.iterdir()) if _package(path) == package
        ]
        if not files and package not in self.projects:
            return None
        page = {"meta": {"api-version": "1.1"}, "name": package, "files": files}
        return page | self.projects.get(package, {})

    def _file(self, path: Path) -> dict[str, Any]:
        content = path.read_bytes()
        file = {
            "filename": path.name,
            "url": f"{self.url}/files/{path.name}",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "size": len(content),
        }
        return file | self.details.get(path.name, {})


def _package(path: Path) -> str:
    """Where a file is listed; what cannot be parsed belongs to what it begins with."""
    try:
        return canonicalize_name(parse_filename(path.name)[0])
    except ValueError:
        return canonicalize_name(re.split(r"[-.]", path.name)[0])


def as_html(page: dict[str, Any]) -> str:
    """The page as HTML, as far as that goes."""
    marker = page.get("project-status", {})
    metas = "".join(
        f'<meta name="pypi:{name}" content="{escape(marker[key])}">\n'
        for key, name in (("status", "project-status"), ("reason", "project-status-reason"))
        if key in marker
    )
    return "<!DOCTYPE html>\n" + metas + "".join(map(_anchor, page["files"]))


def _anchor(file: dict[str, Any]) -> str:
    fragment = "".join(f"#{name}={digest}" for name, digest in file["hashes"].items())
    attributes = ""
    if file.get("requires-python"):
        attributes += f' data-requires-python="{escape(file["requires-python"])}"'
    if file.get("yanked", False) is not False:
        reason = "" if file["yanked"] is True else file["yanked"]
        attributes += f' data-yanked="{escape(reason)}"'
    return f'<a href="{file["url"]}{fragment}"{attributes}>{escape(file["filename"])}</a>\n'


class _Handler(SimpleHTTPRequestHandler):
    """Pages under /simple/, files under /files/."""

    def __init__(self, index: SmallPyPI, *arguments: Any) -> None:
        self.index = index
        super().__init__(*arguments, directory=str(index.folder))

    def do_GET(self) -> None:
        self.index.asked.append(self.path)
        match unquote(self.path).strip("/").split("/"):
            case ["simple", name]:
                self.answer_page(canonicalize_name(name))
            case ["files", name]:
                self.index.before_file(name)
                self.path = f"/{name}"
                super().do_GET()
            case _:
                self.send_error(404)

    def answer_page(self, package: str) -> None:
        status = self.index.statuses.get(package, 200)
        page = self.index.page(package)
        if status != 200 or page is None:
            self.send_error(status if status != 200 else 404)
        elif self.index.speaks_json and JSON in self.headers.get("Accept", ""):
            self.answer(JSON, json.dumps(page))
        else:
            self.answer(HTML, as_html(page))

    def answer(self, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: ``asked`` tells."""


@contextmanager
def small_pypi(folder: Path) -> Iterator[SmallPyPI]:
    """Serve *folder* on a free port of this machine until the block ends."""
    index = SmallPyPI(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, index))
    index.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
