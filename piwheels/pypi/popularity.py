"""Download counts from a file, or from a web server that the operator names."""

from pathlib import Path

from piwheels.model.errors import Unavailable
from piwheels.pypi.connection import Connection, status_line

LARGEST = 256 * 2**20  # bytes; all of PyPI is a tenth of that


def fetch_counts(source: str) -> str:
    """The text of the file or URL *source*. Raise RateLimited, Unavailable."""
    if not source.startswith(("http://", "https://")):
        try:
            return Path(source).expanduser().read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise Unavailable(f"cannot read {source}: {error.strerror}") from error
    with Connection() as connection, connection.ask(source, {}) as response:
        if response.status_code != 200:
            raise Unavailable(f"{source} answers {status_line(response)}: check the address")
        content = b"".join(connection.chunks(response, LARGEST))
    return content.decode("utf-8", "replace")
