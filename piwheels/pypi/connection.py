"""Requests to PyPI: what is common to all of them, whatever is asked."""

import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Self
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from piwheels import __version__
from piwheels.model.errors import Unavailable
from piwheels.pypi.errors import RateLimited

USER_AGENT = f"piwheels/{__version__} Python/{platform.python_version()}"
RETRIES = 2
TIMEOUT_SECONDS = (10.0, 30.0)  # to connect; between two bytes
PATIENCE_SECONDS = 600.0  # for a whole answer: a byte now and then is no answer
CONNECTIONS = 8
PASSING = (500, 502, 503, 504)  # may be gone at the next try; 429 asks us to leave it
READING = frozenset({"GET", "POST"})  # a POST to the journal changes nothing either
CHUNK_BYTES = 65_536

UNSAID_PAUSE = 60.0  # seconds, where a server does not say when to come again
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 3600.0
RESET = re.compile(r"\b(?:t|reset)\s*=\s*([0-9]{1,10})")  # RateLimit header fields, two drafts


class Connection:
    """Connections to the server at *url*, for any number of threads.

    default_url: for the clients that have one. user_agent: says who asks, so that the server's
    owner can complain. pause: seconds before the second repetition of a request that failed;
    the first is made at once. connections: how many are kept open. timeouts: seconds to
    connect, and between two bytes. patience: seconds for a whole answer.
    """

    default_url = ""

    def __init__(
        self,
        url: str | None = None,
        user_agent: str = USER_AGENT,
        pause: float = 2.0,
        connections: int = CONNECTIONS,
        timeouts: tuple[float, float] = TIMEOUT_SECONDS,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.url = self.default_url if url is None else url
        self.timeouts = timeouts
        self.patience = patience
        self.session = requests.Session()
        self.session.headers["User-Agent"] = user_agent
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        adapter = HTTPAdapter(pool_maxsize=connections, max_retries=_politely(pause))
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        environment = self.session.merge_environment_settings("", {}, None, None, None)
        self.session.verify = environment["verify"]
        self.session.trust_env = False  # else all of it is looked up for each request

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self.session.close()

    @contextmanager
    def ask(
        self,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
    ) -> Iterator[requests.Response]:
        """Give the answer to a GET, or to a POST of *content*; its body is not read yet.

        Raise RateLimited, Unavailable; not for other statuses: they are the caller's to judge.
        """
        method = "GET" if content is None else "POST"
        try:
            response = self.session.request(
                method,
                url,
                headers=headers,
                data=content,
                timeout=self.timeouts,
                proxies=_proxies(urljoin(url, "/")),
                stream=True,
            )
        except (requests.RequestException, HTTPError, ValueError) as error:
            raise _unreachable(url, error) from error
        with closing(response):
            if response.status_code == 429:
                seconds = _asked_pause(response.headers)
                raise RateLimited(
                    f"{url} answers {status_line(response)}: leave it alone for {seconds:.0f} s",
                    seconds,
                )
            yield response

    def chunks(self, response: requests.Response, largest: int) -> Iterator[bytes]:
        """Yield the body of *response*, unpacked, as it comes.

        largest: bytes. Raise Unavailable if there are more, if it does not end, or if nothing
        would tell its end from a cut: half a page must not pass for a page.
        """
        if not _has_an_end(response.headers):
            raise Unavailable(
                f"{response.url} does not say how long its answer is, which may be cut: "
                "try again later, or let its server say Content-Length"
            )
        deadline = time.monotonic() + self.patience
        read = 0
        try:
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
                read += len(chunk)
                if read > largest:
                    raise Unavailable(
                        f"{response.url} sends more than {largest} bytes: check the address"
                    )
                if time.monotonic() > deadline:
                    raise Unavailable(f"{response.url} sends too slowly: try again later")
                yield chunk
        except (HTTPError, OSError) as error:
            raise _unreachable(response.url, error) from error


@lru_cache(16)
def _proxies(origin: str) -> dict[str, str]:
    """Those of the environment for that server."""
    return dict(get_environ_proxies(origin))


def _has_an_end(headers: Mapping[str, str]) -> bool:
    is_chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
    return is_chunked or headers.get("Content-Length", "").isdecimal()


def status_line(response: requests.Response) -> str:
    """The status of *response* for people: "404 Not Found"."""
    return f"{response.status_code} {(response.reason or '')[:100]}".strip()


def bounded_pause(seconds: float) -> float:
    """The *seconds* a server wants to be left alone for, as far as we let it."""
    return min(max(seconds, SHORTEST_PAUSE), LONGEST_PAUSE)


def first_line(error: BaseException) -> str:
    """What *error* says, on one line."""
    text = getattr(error, "strerror", None) or str(error).rpartition(">: ")[2]
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]


def _politely(pause: float) -> Retry:
    return Retry(
        total=RETRIES,
        backoff_factor=pause / 2,  # urllib3: nothing, then twice this
        allowed_methods=READING,
        status_forcelist=PASSING,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may ask for hours: the caller decides on those
    )


def _asked_pause(headers: Mapping[str, str]) -> float:
    """Seconds, from Retry-After (a number or a date), else from RateLimit headers."""
    if "Retry-After" in headers:
        try:
            return bounded_pause(Retry().parse_retry_after(headers["Retry-After"]))
        except (InvalidHeader, ValueError, OverflowError):
            return UNSAID_PAUSE
    said = RESET.findall(f"{headers.get('RateLimit', '')} reset={headers.get('RateLimit-Reset')}")
    return bounded_pause(max(map(float, said))) if said else UNSAID_PAUSE


def _unreachable(url: str | None, error: BaseException) -> Unavailable:
    return Unavailable(
        f"cannot reach {url} ({_cause(error)}): check the network and the address, then try again"
    )


def _cause(error: BaseException) -> str:
    """The innermost of nested network errors, which alone says what happened."""
    while True:
        inner = getattr(error, "reason", None) or next(
            (part for part in error.args if isinstance(part, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            return first_line(error)
        error = inner
