"""Fetches the source distribution of a build."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.exceptions import ChunkedEncodingError, ConnectionError, RequestException, Timeout

from piwheels.model.builds import FailureClass, Sdist
from piwheels.slave.clock import Clock
from piwheels.slave.failed import BuildFailed, failed

TRIES = 3
PAUSE = 1.0  # seconds before the second try, doubled before each later one
CONNECT_SECONDS = 15
READ_SECONDS = 60
CHUNK = 256 * 1024
MOST_BYTES = 4 * 1024**3
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


def fetch(sdist: Sdist, destination: Path, clock: Clock) -> None:
    """Write the bytes of *sdist* to the file *destination* after checking hash and size.

    Raise BuildFailed: index unavailable (after three tries), or fetch failed.
    """
    if urlsplit(sdist.url).scheme not in ("http", "https"):
        raise failed(FailureClass.FETCH_FAILED, "the sdist has no http or https address")
    for attempt in range(TRIES):
        try:
            _try(sdist, destination, clock)
            return
        except (ConnectionError, Timeout, ChunkedEncodingError) as error:
            trouble = _unavailable(sdist, str(error))
        except BuildFailed as error:
            if error.failure.kind is not FailureClass.INDEX_UNAVAILABLE:
                raise
            trouble = error
        except RequestException as error:
            raise failed(FailureClass.FETCH_FAILED, f"{sdist.filename}: {error}") from error
        if attempt + 1 < TRIES:
            clock.wait(PAUSE * 2**attempt)
    raise trouble


def _unavailable(sdist: Sdist, why: str) -> BuildFailed:
    return failed(FailureClass.INDEX_UNAVAILABLE, f"{sdist.filename} cannot be had now: {why}")


def _try(sdist: Sdist, destination: Path, clock: Clock) -> None:
    timeouts = (CONNECT_SECONDS, READ_SECONDS)
    # The bytes as stored, whatever a server makes of a name that ends in .gz.
    headers = {"Accept-Encoding": "identity"}
    with requests.get(sdist.url, headers=headers, stream=True, timeout=timeouts) as response:
        if response.status_code in PASSING:
            raise _unavailable(sdist, f"the server answers {response.status_code}")
        if response.status_code != 200:
            raise failed(
                FailureClass.FETCH_FAILED,
                f"{sdist.filename}: the server answers {response.status_code} {response.reason}",
            )
        _store(sdist, response, destination, clock)


def _store(sdist: Sdist, response: requests.Response, destination: Path, clock: Clock) -> None:
    limit = MOST_BYTES if sdist.size is None else sdist.size
    digest = hashlib.sha256()
    size = 0
    with destination.open("wb") as file:
        for chunk in response.iter_content(CHUNK):
            clock.check()
            size += len(chunk)
            if size > limit:
                raise failed(
                    FailureClass.FETCH_FAILED, f"{sdist.filename} is larger than {limit} bytes"
                )
            digest.update(chunk)
            file.write(chunk)
    if sdist.size is not None and size != sdist.size:
        raise _unavailable(sdist, f"{size} of {sdist.size} bytes arrived")
    if digest.hexdigest() != sdist.sha256.lower():
        raise failed(
            FailureClass.FETCH_FAILED,
            f"{sdist.filename} has another sha256 than the index says: {digest.hexdigest()}",
        )
