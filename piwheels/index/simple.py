"""The pages pip and uv read: PEP 503, 592, 629, 658, 691, 700 and 714, at API version 1.4.

Each page comes as the pieces of its text, one per link: the root lists as many packages as
PyPI has, and must not be held in memory. Plain formatting serves these four frozen shapes
(PEP 833) five times as fast as a template would.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import quote

from piwheels.index.characters import printable
from piwheels.model.published import PublishedFile

API_VERSION = "1.4"


def root_html(packages: Iterable[str]) -> Iterator[str]:
    """The list of *packages* (normalized names) as HTML. Links are relative."""
    yield _head("Simple index")
    for package in packages:
        yield f'<a href="{quote(package)}/">{escape(package)}</a><br>\n'
    yield "</body>\n</html>\n"


def root_json(packages: Iterable[str]) -> Iterator[str]:
    """The list of *packages* (normalized names) as JSON."""
    yield f'{{"meta":{_dump(_META)},"projects":['
    separator = ""
    for package in packages:
        yield f"{separator}{_dump({'name': package})}"
        separator = ",\n"
    yield "]}\n"


def project_html(package: str, files: Iterable[PublishedFile]) -> Iterator[str]:
    """The links to *files* of *package* as HTML, relative to the folder the files lie in."""
    yield _head(f"Links for {package}")
    for file in files:
        yield f"<a{_attributes(file)}>{escape(printable(file.filename))}</a><br>\n"
    yield "</body>\n</html>\n"


def project_json(package: str, files: Iterable[PublishedFile]) -> Iterator[str]:
    """The same as JSON; its versions are those that have a file, each once."""
    files = tuple(files)
    versions = list(dict.fromkeys(printable(file.version) for file in files))
    yield f'{{"meta":{_dump(_META)},"name":{_dump(package)},"versions":{_dump(versions)},"files":['
    separator = ""
    for file in files:
        yield f"{separator}{_dump(_entry(file))}"
        separator = ",\n"
    yield "]}\n"


_META = {"api-version": API_VERSION}


def _head(title: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="pypi:repository-version" content="{API_VERSION}">\n'
        f"<title>{escape(title)}</title>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
    )


def _attributes(file: PublishedFile) -> str:
    """The attributes of a file's link; what is not known is left out, never empty."""
    attributes = {"href": f"{_url(file)}#sha256={file.sha256}"}
    if file.requires_python:
        attributes["data-requires-python"] = printable(file.requires_python)
    if file.yanked is not None:
        attributes["data-yanked"] = printable(file.yanked)
    if file.metadata_sha256:
        # Both names: PEP 658's, which older clients read, and PEP 714's, which corrects it.
        attributes["data-core-metadata"] = f"sha256={file.metadata_sha256}"
        attributes["data-dist-info-metadata"] = f"sha256={file.metadata_sha256}"
    return "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())


def _entry(file: PublishedFile) -> dict[str, Any]:
    """A file's entry in JSON; what is not known is left out, since uv rejects null and ''."""
    entry: dict[str, Any] = {
        "filename": printable(file.filename),
        "url": _url(file),
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": _utc(file.published),
        # An empty reason would be falsy to pip, which would then install a yanked file.
        "yanked": False if file.yanked is None else printable(file.yanked) or True,
    }
    if file.requires_python:
        entry["requires-python"] = printable(file.requires_python)
    if file.metadata_sha256:
        entry["core-metadata"] = {"sha256": file.metadata_sha256}
    return entry


def _url(file: PublishedFile) -> str:
    """The file's bare name: it lies beside the page that links to it."""
    return quote(file.filename, safe="", errors="replace")


def _utc(moment: datetime) -> str:
    """PEP 700's form: 2026-11-22T16:53:46.123456Z."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
