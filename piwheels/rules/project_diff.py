"""What PyPI says of a package, how that differs from what is known, and which version to build."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from piwheels.model.errors import PiwheelsError
from piwheels.model.projects import Changes, ProjectPage, ProjectVersion

REMOVED = "removed from PyPI"  # the reason why what PyPI no longer has is yanked
MOST_NAMED = 3  # versions in an error's text


class BadSpecifier(PiwheelsError):
    """A version specifier that breaks PEP 440. Its writer's fault."""


class NoSuchVersion(PiwheelsError):
    """PyPI has no version that the specifier admits. The asker's fault."""


class NoSdist(PiwheelsError):
    """PyPI has only wheels of what the specifier admits: there is nothing to build."""


def diff(known: Mapping[str, ProjectVersion], page: ProjectPage) -> Changes:
    """Compare what is *known* of a package, by version, with its *page*."""
    present = {version.version: version for version in page.versions}
    return Changes(
        new=tuple(version for name, version in present.items() if name not in known),
        changed=tuple(
            version for name, version in present.items() if known.get(name, version) != version
        ),
        gone=tuple(
            withdrawn(version)
            for name, version in known.items()
            if name not in present and version != withdrawn(version)
        ),
    )


def withdrawn(version: ProjectVersion) -> ProjectVersion:
    """What is kept of a *version* that PyPI no longer has: it cannot be built any more.

    What was built of it stays for those who pin it, and is yanked for everybody else.
    """
    return replace(version, sdist=None, yanked=REMOVED)


def choose(page: ProjectPage, specifier: str = "", pythons: Collection[str] = ()) -> ProjectVersion:
    """Return the newest version on *page* that *specifier* (PEP 440) admits and that has an sdist.

    Yanked versions count only if pinned exactly, pre-releases only if the specifier admits
    them or nothing else exists. A version that one of *pythons* (full versions of the
    interpreters that are built for) can run goes before one that none can.
    Raise BadSpecifier, NoSuchVersion, NoSdist.
    """
    found = admitted(page, specifier)
    buildable = [version for version in found if version.sdist]
    if not buildable:
        raise NoSdist(_why_no_sdist(page, found))
    suitable = [version for version in buildable if suits_any(version, pythons)]
    return (suitable or buildable)[0]


def admitted(page: ProjectPage, specifier: str) -> list[ProjectVersion]:
    """All versions on *page* that *specifier* admits, newest first, buildable or not.

    Raise BadSpecifier, NoSuchVersion.
    """
    wanted = parse_specifier(specifier)
    versions = _by_number(page.versions)
    pinned = is_pin(wanted)
    offered = [number for number, version in versions.items() if pinned or version.yanked is None]
    numbers = list(wanted.filter(offered, prereleases=pinned or None))
    if not numbers:
        raise NoSuchVersion(_why_none(page.package, versions, wanted))
    return [versions[number] for number in numbers]


def parse_specifier(text: str) -> SpecifierSet:
    """Read a version specifier such as ==1.16.0 or >=1.10,<2. Raise BadSpecifier."""
    try:
        return SpecifierSet(text)
    except InvalidSpecifier as error:
        raise BadSpecifier(
            f"{text!r} is not a version specifier: write it as ==1.16.0 or >=1.10,<2"
        ) from error


def is_pin(specifier: SpecifierSet) -> bool:
    """Whether only one version can satisfy it."""
    return any(
        part.operator == "===" or (part.operator == "==" and not part.version.endswith(".*"))
        for part in specifier
    )


def suits_any(version: ProjectVersion, pythons: Collection[str]) -> bool:
    """Whether one of *pythons* may run *version*; so too if that cannot be known."""
    try:
        supported = SpecifierSet(version.requires_python)
    except InvalidSpecifier:
        return True
    return not pythons or any(supported.contains(python, prereleases=True) for python in pythons)


def _by_number(versions: Iterable[ProjectVersion]) -> dict[Version, ProjectVersion]:
    """By version number, newest first."""
    numbered = {}
    for version in versions:
        try:
            numbered[Version(version.version)] = version
        except InvalidVersion:
            continue
    return dict(sorted(numbered.items(), reverse=True))


def _why_none(
    package: str, versions: Mapping[Version, ProjectVersion], specifier: SpecifierSet
) -> str:
    if not versions:
        return f"PyPI has no release of {package} yet: try again when there is one"
    yanked = [version for number, version in versions.items() if number in specifier]
    if yanked:
        return (
            f"every version of {package} that would do was yanked: to build one none the less, "
            f"pin it exactly, e.g. {package}=={yanked[0].version}"
        )
    near = _near(versions, specifier)
    return f"PyPI has no version of {package} that {specifier} admits: try one of {near}"


def _near(versions: Mapping[Version, ProjectVersion], specifier: SpecifierSet) -> str:
    """Name the versions nearest to a pinned one, and the newest."""
    names = [version.version for version in versions.values()]
    pins = [part.version for part in specifier if is_pin(SpecifierSet(str(part)))]
    near = [name for pin in pins for name in get_close_matches(pin, names, MOST_NAMED)]
    return ", ".join(dict.fromkeys([*near, *names[: MOST_NAMED - len(near)], names[0]]))


def _why_no_sdist(page: ProjectPage, found: list[ProjectVersion]) -> str:
    which = found[0].version if len(found) == 1 else f"{found[-1].version} to {found[0].version}"
    reason = f"PyPI has only wheels of {page.package} {which}, and nothing to build one from"
    for version in _by_number(page.versions).values():
        if version.sdist:
            return f"{reason}: the newest version with an sdist is {version.version}"
    return f"{reason}: use PyPI's own"
