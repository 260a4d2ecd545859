"""Download counts as operators have them, as CSV or JSON: pure."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from piwheels.model.errors import BadName, PiwheelsError
from piwheels.model.names import normalize

NAMES = ("project", "package", "name")
COUNTS = ("downloads", "download_count", "count")


class BadCounts(PiwheelsError):
    """A file of download counts that cannot be read. The operator's to mend."""


def read_counts(content: str) -> dict[str, int]:
    """Downloads by normalized name, the most popular first; names that are none are left out.

    content: CSV with or without a heading, project and downloads in the first two columns; or
    JSON: rows, or {"rows": rows}, each ["six", 7] or {"project": "six", "downloads": 7}.
    Raise BadCounts.
    """
    rows = _from_json(content) if content.lstrip()[:1] in ("[", "{") else _from_csv(content)
    counts: dict[str, int] = {}
    for name, count in rows:
        try:
            package = normalize(name)
        except BadName:
            continue
        counts[package] = max(count, counts.get(package, 0))
    if not counts:
        raise BadCounts("there are no download counts in it: write rows of project,downloads")
    return dict(sorted(counts.items(), key=lambda each: -each[1]))


def _from_csv(content: str) -> Iterator[tuple[str, int]]:
    try:
        rows = list(csv.reader(content.splitlines()))
    except csv.Error as error:
        raise BadCounts(f"it is no CSV ({error}): write rows of project,downloads") from error
    return _pairs(row[:2] for row in rows)


def _from_json(content: str) -> Iterator[tuple[str, int]]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadCounts(f"it is no JSON ({error}): write rows of project, downloads") from error
    rows = found.get("rows") if isinstance(found, dict) else found
    if not isinstance(rows, list):
        raise BadCounts('there are no rows in it: write {"rows": [["six", 7]]}')
    return _pairs(_pair(row) for row in rows)


def _pair(row: Any) -> list[Any]:
    if isinstance(row, Mapping):
        return [_first(row, NAMES), _first(row, COUNTS)]
    return row[:2] if isinstance(row, list) else []


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _pairs(rows: Iterable[list[Any]]) -> Iterator[tuple[str, int]]:
    """Rows that make sense: a heading does not."""
    for row in rows:
        match row:
            case [str(name), int(count)] if count >= 0:
                yield name.strip(), int(count)
            case [str(name), str(count)] if count.strip().isdecimal():
                yield name.strip(), int(count)
