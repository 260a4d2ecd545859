"""Asking PyPI, or whatever serves its simple API, for what it has."""

from collections.abc import Iterator

import requests
from pypi_simple import ACCEPT_ANY, PYPI_SIMPLE_ENDPOINT, UnsupportedRepoVersionError

from piwheels.model.errors import Unavailable
from piwheels.model.names import normalize
from piwheels.model.projects import ProjectPage
from piwheels.pypi.connection import Connection, first_line, status_line
from piwheels.pypi.errors import NoSuchProject, StalePage
from piwheels.pypi.page import parse_page, read_page
from piwheels.pypi.root import read_root

LARGEST_PAGE = 128 * 2**20  # bytes; the largest on PyPI has some 10 million
LARGEST_ROOT = 2**30  # bytes; PyPI's has some 40 million, and is read as it comes


class PyPI(Connection):
    """A client of the simple API."""

    default_url = PYPI_SIMPLE_ENDPOINT

    @property
    def simple_url(self) -> str:
        """The address of the root page."""
        return self.url.rstrip("/") + "/"

    def project(self, name: str, serial: int | None = None) -> ProjectPage:
        """Return what PyPI has of project *name*.

        serial: of a change that the page must know. Raise BadName, NoSuchProject, StalePage,
        RateLimited, Unavailable.
        """
        package = normalize(name)
        where = self.simple_url
        with self.ask(f"{where}{package}/", {"Accept": ACCEPT_ANY}) as response:
            if response.status_code == 404:
                raise NoSuchProject(f"there is no project {package} on {where}: check the spelling")
            _check_status(where, response)
            body = b"".join(self.chunks(response, LARGEST_PAGE))
        try:
            page = read_page(package, parse_page(package, response.url, response.headers, body))
        except (ValueError, RecursionError, UnsupportedRepoVersionError) as error:
            raise Unavailable(
                f"what {where} says of {package} cannot be read ({first_line(error)}): "
                "check that the address is that of a simple index, or try again later"
            ) from error
        if serial is not None and page.serial is not None and page.serial < serial:
            raise StalePage(
                f"the page of {package} on {where} is of serial {page.serial}, before {serial}: "
                "an old copy; try again later"
            )
        return page

    def serials(self) -> Iterator[tuple[str, int | None]]:
        """Yield every project, as PyPI spells it, and the serial of its last change if it says.

        Read as it comes: it is complete only if it ends without an error. Raise RateLimited,
        Unavailable.
        """
        where = self.simple_url
        with self.ask(where, {"Accept": ACCEPT_ANY}) as response:
            _check_status(where, response)
            chunks = self.chunks(response, LARGEST_ROOT)
            try:
                yield from read_root(response.headers.get("Content-Type", "text/html"), chunks)
            except (ValueError, UnsupportedRepoVersionError) as error:
                raise Unavailable(
                    f"the list of all projects on {where} cannot be read ({first_line(error)}): "
                    "check that the address is that of a simple index, or try again later"
                ) from error


def _check_status(where: str, response: requests.Response) -> None:
    if response.status_code != 200:
        raise Unavailable(f"{where} answers {status_line(response)}: try again later")
