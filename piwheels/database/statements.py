"""SQL found by name: each file of piwheels.sql holds statements headed by ``-- name: …``."""

import re
from functools import cache
from importlib.resources import files

from sqlalchemy import TextClause, text

HEADING = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
COMMENT = re.compile(r"--[^\n]*")  # text() would take :word inside a comment for a parameter


@cache
def statement(area: str, name: str) -> TextClause:
    """Return statement *name* of ``sql/<area>.sql``. KeyError if it is not there."""
    return text(_statements(area)[name]).execution_options(prepared=f"{area}_{name}")


@cache
def _statements(area: str) -> dict[str, str]:
    source = (files("piwheels.sql") / f"{area}.sql").read_text(encoding="utf-8")
    _, *parts = HEADING.split(source)
    return {
        name: COMMENT.sub("", body).strip().rstrip(";")
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
