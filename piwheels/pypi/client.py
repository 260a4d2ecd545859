"""Asking PyPI, or whatever serves its simple API, for what it has of a package."""

import platform
from typing import Self

import requests
from pypi_simple import (
    PYPI_SIMPLE_ENDPOINT,
    NoSuchProjectError,
    PyPISimple,
    UnsupportedRepoVersionError,
)
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from piwheels import __version__
from piwheels.model.errors import PiwheelsError, Unavailable
from piwheels.model.names import normalize
from piwheels.model.projects import ProjectPage
from piwheels.pypi.page import read_page

USER_AGENT = f"piwheels/{__version__} Python/{platform.python_version()}"
RETRIES = 2
TIMEOUT_SECONDS = (10.0, 30.0)  # to connect; between two bytes
PASSING = (500, 502, 503, 504)  # may be gone at the next try; 429 asks us to leave it


class NoSuchProject(PiwheelsError):
    """PyPI has no project of this name, perhaps not any more."""


class PyPI:
    """A client of the simple API at *simple_url*, for any number of threads.

    pause: seconds before the second repetition of a request that failed; the first is made
    at once.
    """

    def __init__(
        self,
        simple_url: str = PYPI_SIMPLE_ENDPOINT,
        user_agent: str = USER_AGENT,
        pause: float = 2.0,
    ) -> None:
        session = requests.Session()
        session.headers["User-Agent"] = user_agent
        adapter = HTTPAdapter(max_retries=_politely(pause))
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        self.client = PyPISimple(simple_url, session=session)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self.client.s.close()

    def project(self, name: str) -> ProjectPage:
        """Return what PyPI has of project *name*. Raise BadName, NoSuchProject, Unavailable."""
        package = normalize(name)
        where = self.client.endpoint
        try:
            page = self.client.get_project_page(package, timeout=TIMEOUT_SECONDS)
        except NoSuchProjectError as error:
            raise NoSuchProject(
                f"there is no project {package} on {where}: check the spelling"
            ) from error
        except requests.HTTPError as error:
            raise Unavailable(f"{where} answers {_status(error)}: try again later") from error
        except requests.RequestException as error:
            raise Unavailable(
                f"cannot reach {where} ({_cause(error)}): check the network and the address, "
                "then try again"
            ) from error
        except (ValueError, RecursionError, UnsupportedRepoVersionError) as error:
            raise Unavailable(
                f"what {where} says of {package} cannot be read ({_first_line(error)}): "
                "check that the address is that of a simple index, or try again later"
            ) from error
        return read_page(package, page)


def _politely(pause: float) -> Retry:
    return Retry(
        total=RETRIES,
        backoff_factor=pause / 2,  # urllib3: nothing, then twice this
        status_forcelist=PASSING,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may ask for hours: the caller decides on those
    )


def _status(error: requests.HTTPError) -> str:
    return f"{error.response.status_code} {error.response.reason}".strip()


def _cause(error: BaseException) -> str:
    """The innermost of nested network errors, which alone says what happened."""
    while True:
        inner = getattr(error, "reason", None) or next(
            (part for part in error.args if isinstance(part, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            return _first_line(error)
        error = inner


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).rpartition(">: ")[2]
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]
