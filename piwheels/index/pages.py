"""The pages people read: home, a package's page, and what is shown for a missing page.

They say everything without JavaScript and link relatively, so that the tree can be served
under any address. Templates lie in templates/.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from chameleon import PageTemplateLoader

from piwheels.index.characters import printable
from piwheels.model.published import Project, Release, Standing

HERE = Path(__file__).parent

WORDS = {
    "done": "wheel",
    "building": "building",
    "waiting": "waiting",
    "deferred": "deferred",
    "failed": "failed",
    "held": "held",
    "skipped": "skipped",
    "unsupported": "unsupported",
    "no sdist": "no source",
    "none": "\N{EN DASH}",
}
SYMBOLS = {"done": "✓", "building": "⚙", "waiting": "⋯", "failed": "✗", "held": "!"}


@dataclass(frozen=True, slots=True)
class Site:
    """How pages speak of this farm and its surroundings.

    url: of the tree's root as users reach it; empty where nobody knows.
    pypi_url: of PyPI's root; empty leaves out the links to it.
    """

    name: str = "Wheel farm"
    url: str = ""
    pypi_url: str = ""

    @property
    def simple_url(self) -> str:
        """Where pip and uv find the index; a placeholder where nobody knows."""
        return urljoin(_folder(self.url or "https://this-site.example"), "simple/")

    @property
    def path(self) -> str:
        """The path of the tree's root on its host, with slashes around it."""
        return _folder(urlsplit(self.url).path)

    @property
    def distrusted_host(self) -> str:
        """The host that pip must be told to trust, since nothing encrypts the way to it."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        return "" if parts.scheme != "http" or _is_loopback(host) else parts.netloc.split("@")[-1]


@dataclass(frozen=True, slots=True)
class PackageCounts:
    """One line of the home page's list. states: how many standings are in each state."""

    package: str
    summary: str = ""
    states: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Home:
    """What the home page shows. packages: those to list; package_count: how many there are.

    totals: how many standings of all packages are in each state.
    """

    packages: tuple[PackageCounts, ...]
    package_count: int
    totals: Mapping[str, int] = field(default_factory=dict)


def home_page(home: Home, site: Site) -> str:
    """index.html at the root of the tree."""
    packages = [
        {
            "name": counts.package,
            "href": f"project/{quote(counts.package)}/",
            "summary": printable(counts.summary),
            "counts": list(_counts(counts.states)),
        }
        for counts in home.packages
    ]
    return _render(
        "home", site, "./", packages=packages, home=home, totals=list(_counts(home.totals))
    )


def project_page(project: Project, site: Site) -> str:
    """project/<package>/index.html. Files that are not among project.files are not linked."""
    targets = list(
        dict.fromkeys(s.target for release in project.releases for s in release.standings)
    )
    wheels = {file.filename: file for file in project.files}
    return _render(
        "project",
        site,
        "../../",
        project=project,
        name=printable(project.display_name or project.package),
        summary=printable(project.summary),
        targets=[printable(target).partition("-") for target in targets],
        releases=[_row(project, release, targets, set(wheels)) for release in project.releases],
        simple=f"../../simple/{quote(project.package)}/" if wheels else "",
        pypi=urljoin(site.pypi_url, f"/project/{quote(project.package)}/") if site.pypi_url else "",
    )


def not_found_page(site: Site) -> str:
    """404.html. It is shown at any depth, so its links start at the host's root."""
    return _render("not_found", site, site.path)


def style() -> bytes:
    """static/style.css."""
    return (HERE / "static" / "style.css").read_bytes()


@cache
def _templates() -> PageTemplateLoader:
    return PageTemplateLoader(str(HERE / "templates"), ".pt")


def _render(template: str, site: Site, top: str, **values: Any) -> str:
    """Fill in a template. top: the way from the page to the tree's root."""
    return str(_templates()[template](site=site, top=top, **values))


def _row(
    project: Project, release: Release, targets: list[str], wheels: set[str]
) -> dict[str, Any]:
    by_target = {standing.target: standing for standing in release.standings}
    none = Standing("", "none")
    return {
        "version": printable(release.version),
        "released": release.released,
        "yanked": None if release.yanked is None else printable(release.yanked),
        "skip": printable(release.skip),
        "cells": [
            _cell(project.package, target, by_target.get(target, none), wheels)
            for target in targets
        ],
        "notes": list(_notes(release.standings)),
    }


def _cell(package: str, target: str, standing: Standing, wheels: set[str]) -> dict[str, str]:
    """One version on one target: a word, and where it leads, if anywhere."""
    href = ""
    if standing.filename in wheels:
        href = f"../../simple/{quote(package)}/{quote(standing.filename, errors='replace')}"
    elif standing.log:
        href = _log_link(standing)
    return {"target": printable(target), "href": href, **_chip(standing.state)} | {
        "title": printable(standing.filename or standing.cause)
    }


def _notes(standings: Iterable[Standing]) -> Iterator[dict[str, Any]]:
    """What there is to say of some standings, once for all of those it is true of."""
    alike: dict[tuple[str, str, str], list[Standing]] = {}
    for standing in standings:
        if standing.cause or standing.fix or (standing.state == "failed" and standing.log):
            alike.setdefault((standing.state, standing.cause, standing.fix), []).append(standing)
    for (state, cause, fix), group in alike.items():
        yield {
            **_chip(state),
            "targets": ", ".join(printable(standing.target) for standing in group),
            "cause": printable(cause),
            "fix": printable(fix),
            "logs": [
                {"target": printable(standing.target), "href": _log_link(standing)}
                for standing in group
                if standing.log
            ],
        }


def _log_link(standing: Standing) -> str:
    return f"../../{quote(standing.log, errors='replace')}"


def _counts(states: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """The states that occur, in the order people look for them."""
    for state in [*WORDS, *(state for state in states if state not in WORDS)]:
        if number := states.get(state, 0):
            yield {"number": number, **_chip(state)}


def _chip(state: str) -> dict[str, str]:
    """How a state looks. An unknown one is shown as it is called."""
    word = WORDS.get(state, printable(state))
    return {
        "word": word,
        "symbol": SYMBOLS.get(state, ""),
        "style": f"state {state.replace(' ', '-') if state in WORDS else 'other'}",
    }


def _folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


def _is_loopback(host: str) -> bool:
    """Whether pip reaches *host* without leaving the machine, and therefore trusts it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
