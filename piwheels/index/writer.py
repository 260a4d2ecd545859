"""The one writer of the web tree.

    index.html  404.html  static/style.css
    simple/index.*                                     as HTML and JSON
    simple/<package>/index.*  <wheel>  <wheel>.metadata
    project/<package>/index.html
    logs/0000/0001/2345.txt.gz

Each page has a .gz variant beside it. Readers see a page as it was or as it is, never half
of it; unchanged pages are not touched, so that caches stay valid; wheels, sidecars and logs
never change.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from piwheels.index import durable, pages, simple
from piwheels.index.pages import Home, Site
from piwheels.model.errors import BadName
from piwheels.model.names import LONGEST_NAME, normalize, parse_wheel_name
from piwheels.model.published import Project, PublishedFile, log_path

HTML = "index.html"
V1_HTML = "index.v1_html"
V1_JSON = "index.v1_json"
SIMPLE_PAGES = (HTML, V1_HTML, V1_JSON)
SIDECAR = ".metadata"
BLOCK = 2**16  # bytes or so of a page that are rendered before they are written
NAMELESS = Site()

T = TypeVar("T")


class WebTree:
    """The public files of the farm below *root*, on one file system or several.

    Any number of writers may work in one tree at once, but only one on one package.
    """

    def __init__(self, root: Path, site: Site = NAMELESS):
        self.root = root
        self.site = site

    def package_folder(self, package: str) -> Path:
        """Where the wheels of *package* lie. Raise BadName if it is not a normalized name."""
        return self.root / "simple" / _checked(package)

    def project_folder(self, package: str) -> Path:
        """Where the page of *package* for people lies. Raise BadName."""
        return self.root / "project" / _checked(package)

    def wheel_path(self, package: str, filename: str) -> Path:
        """Where a wheel of *package* lies. Raise BadName if it cannot lie there."""
        if parse_wheel_name(filename).package != package:
            raise BadName(f"{filename} is not a wheel of {package}")
        if len(os.fsencode(filename)) > LONGEST_NAME - len(SIDECAR):
            raise BadName(f"{filename[:60]}… leaves no room for {SIDECAR} behind it")
        return self.package_folder(package) / filename

    def sidecar_path(self, package: str, filename: str) -> Path:
        """Where the METADATA of that wheel lies (PEP 658). Raise BadName."""
        wheel = self.wheel_path(package, filename)
        return wheel.with_name(wheel.name + SIDECAR)

    def log_path(self, build_id: int) -> Path:
        """Where the log of a build lies."""
        return self.root / log_path(build_id)

    def write_project(self, project: Project) -> tuple[str, ...]:
        """Write all pages of a package; without a file it gets none in the simple index.

        No page names a wheel that is not there. Return the names that were left off for it.
        """
        folder = self.package_folder(project.package)
        found = tuple(_on_disk(folder, project.files))
        project, missing = (
            replace(project, files=found),
            {file.filename for file in project.files} - {file.filename for file in found},
        )
        if found:
            self._write_pages(folder, _simple_pages(project))
        else:
            self._remove_pages(folder, SIMPLE_PAGES)
        self._write_pages(
            self.project_folder(project.package),
            {HTML: _text(pages.project_page(project, self.site))},
        )
        return tuple(sorted(missing))

    def remove_project(self, package: str) -> None:
        """Remove the pages of *package*.

        Its wheels stay until remove_files(): copies of the pages are still in caches.
        """
        self._remove_pages(self.package_folder(package), SIMPLE_PAGES)
        self._remove_pages(self.project_folder(package), (HTML,))

    def remove_files(self, package: str, filenames: Iterable[str]) -> None:
        """Remove wheels and their sidecars, which no page has named for a while."""
        for filename in filenames:
            self.wheel_path(package, filename).unlink(missing_ok=True)
            self.sidecar_path(package, filename).unlink(missing_ok=True)
        _drop_if_empty(self.package_folder(package))

    def write_root(self, packages: Sequence[str]) -> None:
        """Write the list of *packages*, those that have a file. It is walked several times."""
        html = partial(simple.root_html, packages)
        json = partial(simple.root_json, packages)
        self._write_pages(self.root / "simple", {HTML: html, V1_HTML: html, V1_JSON: json})

    def write_home(self, home: Home) -> None:
        """Write the home page."""
        self._write_pages(self.root, {HTML: _text(pages.home_page(home, self.site))})

    def install_static(self) -> None:
        """Write what depends on no package: the style sheet and the page for missing pages."""
        self._write_pages(self.root / "static", {"style.css": _text(pages.style())})
        self._write_pages(self.root, {"404.html": _text(pages.not_found_page(self.site))})

    def place(self, staged: Path, destination: Path) -> bool:
        """Publish the finished file *staged* as *destination*, for ever.

        Return False if the same bytes are there already, so that it can be repeated after a
        crash: remove *staged* only when the file is recorded, and never write to it again,
        since both names may share their bytes. Raise NameTaken if other bytes are there.
        """
        self._check_inside(destination)
        return _in_folder(destination.parent, lambda: _place(staged, destination))

    def place_bytes(self, content: bytes, destination: Path) -> bool:
        """The same for *content* in memory, such as a sidecar."""
        self._check_inside(destination)
        return _in_folder(destination.parent, lambda: _place_copy(content, destination))

    def sweep(self, before: datetime) -> int:
        """Remove what killed writers left behind before then. Return how many files it was."""
        count = 0
        for folder, _, names in os.walk(self.root, followlinks=True):
            for name in filter(durable.is_temporary, names):
                count += _remove_older(Path(folder, name), before)
        return count

    def _write_pages(self, folder: Path, contents: dict[str, Callable[[], Iterable[str]]]) -> None:
        def write() -> None:
            changed = [
                durable.replace_page(folder / name, partial(_blocks, content))
                for name, content in contents.items()
            ]
            if any(changed):
                durable.sync_folder(folder)

        _in_folder(folder, write)

    def _remove_pages(self, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)
            durable.packed_path(folder / name).unlink(missing_ok=True)
        _drop_if_empty(folder)

    def _check_inside(self, destination: Path) -> None:
        if ".." in destination.parts or not destination.is_relative_to(self.root):
            raise ValueError(f"{destination} is not in the web tree {self.root}")


def _checked(package: str) -> str:
    if normalize(package) != package:
        raise BadName(f"{package} is not a normalized name: {normalize(package)} is")
    return package


def _simple_pages(project: Project) -> dict[str, Callable[[], Iterable[str]]]:
    html = tuple(simple.project_html(project.package, project.files))
    json = tuple(simple.project_json(project.package, project.files))
    return {HTML: lambda: html, V1_HTML: lambda: html, V1_JSON: lambda: json}


def _on_disk(folder: Path, files: Iterable[PublishedFile]) -> Iterator[PublishedFile]:
    """Those of *files* that are there, and without metadata where the sidecar is not.

    pip and uv give up at a link that leads nowhere, to a wheel or to a sidecar.
    """
    try:
        names = set(os.listdir(folder))
    except FileNotFoundError:
        return
    for file in files:
        if file.filename in names:
            has_sidecar = file.filename + SIDECAR in names
            yield file if has_sidecar else replace(file, metadata_sha256="")


def _text(content: str | bytes) -> Callable[[], Iterable[str]]:
    text = content.decode() if isinstance(content, bytes) else content
    return lambda: (text,)


def _blocks(pieces: Callable[[], Iterable[str]]) -> Iterator[bytes]:
    """The pieces of a page, encoded and gathered into larger ones."""
    gathered: list[str] = []
    size = 0
    for piece in pieces():
        gathered.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield "".join(gathered).encode()
            gathered, size = [], 0
    yield "".join(gathered).encode()


def _in_folder(folder: Path, act: Callable[[], T]) -> T:
    """Make *folder* and act in it."""
    durable.make_folder(folder)
    try:
        return act()
    except FileNotFoundError:  # the package's last file left, and the folder with it
        durable.make_folder(folder)
        return act()


def _place(staged: Path, destination: Path) -> bool:
    try:
        return durable.link_new(staged, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:  # not staged on the tree's own file system
            raise
    with open(staged, "rb") as source, durable.temporary(destination.parent) as copy:
        shutil.copyfileobj(source, copy)
        copy.flush()
        return durable.link_new(Path(copy.name), destination)


def _place_copy(content: bytes, destination: Path) -> bool:
    with durable.temporary(destination.parent) as copy:
        copy.write(content)
        copy.flush()
        return durable.link_new(Path(copy.name), destination)


def _remove_older(path: Path, before: datetime) -> bool:
    with suppress(FileNotFoundError):  # its writer lives, and has just finished
        if path.stat().st_mtime < before.timestamp():
            path.unlink()
            return True
    return False


def _drop_if_empty(folder: Path) -> None:
    """Make the removal of *folder*'s files durable, and remove it if nothing is left.

    Servers answer 403 for a folder without a page, at which uv stops where 404 would do.
    """
    with suppress(FileNotFoundError):
        durable.sync_folder(folder)
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return
        durable.sync_folder(folder.parent)
