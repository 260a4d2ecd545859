"""Random histories of a PyPI, for property tests: few projects, spelled and versioned oddly."""

from collections.abc import Iterator

from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from tests.history import (
    Archived,
    Cleared,
    Created,
    Event,
    File,
    FileAdded,
    FileRemoved,
    History,
    Project,
    Quarantined,
    Released,
    ReleaseRemoved,
    Removed,
    RoleChanged,
    Unarchived,
    Unyanked,
    Yanked,
)

SPELLINGS = (
    ("six", "Six", "SIX"),
    ("zope.interface", "Zope_Interface", "zope-interface"),
    ("a", "A"),
    ("x--y", "X-_y"),
)
VERSIONS = (
    "1.0",
    "1.0.0",  # the same, spelled otherwise
    "2.0b1",
    "2.0-beta1",
    "1!0.1+local.1",
    "2004d",  # no version, by PEP 440
    "what ever",
    "1." + "0" * 300 + "1",  # longer than any file name
)
ENDS = (
    ".tar.gz",
    ".zip",
    "-py3-none-any.whl",
    "-1-py3-none-any.whl",
    "-cp311-abi3-linux_armv7l.whl",
    ".exe",
)
REASONS = ("", "broken", "a <b> & 'c'\n\0\u20ac")
GAPS = (0, 0, 0, 1, 99)


@st.composite
def histories(draw: st.DrawFn, longest: int = 40) -> History:
    """Histories of at most so many events, every kind about as often as any other."""
    history = History()
    for _ in range(draw(st.integers(0, longest))):
        history = draw(continuations(history))
    return history


@st.composite
def continuations(draw: st.DrawFn, history: History) -> History:
    """*history* and one more event that is possible then."""
    kinds: dict[str, list[Event]] = {}
    for event in events(history):
        kinds.setdefault(type(event).__name__, []).append(event)
    event = draw(st.sampled_from(kinds[draw(st.sampled_from(sorted(kinds)))]))
    return history.then(event, draw(st.sampled_from(GAPS)))


def events(history: History) -> Iterator[Event]:
    """Yield what may happen next, each for every spelling of the project's name."""
    projects = history.projects()
    for spellings in SPELLINGS:
        project = projects.get(canonicalize_name(spellings[0]))
        for name in spellings:
            for event in [Created(name)] if project is None else _events_of(name, project):
                if not (isinstance(event, FileAdded) and event.file.filename in history.files):
                    yield event


def _events_of(name: str, project: Project) -> Iterator[Event]:
    yield Removed(name)
    yield RoleChanged(name)
    if project.status == "quarantined":
        yield Cleared(name)
    else:
        yield from (Quarantined(name, reason) for reason in REASONS)
        yield from (Archived(name, reason) for reason in REASONS)
    if project.status == "archived":
        yield Unarchived(name)
    for version in VERSIONS:
        if version not in project.releases:
            yield Released(name, version)
            continue
        stem = f"{canonicalize_name(name).replace('-', '_')}-{version.replace('-', '_')}"
        for end in ENDS:
            requires = None if end == ".zip" else ">=3.8"
            file = File(stem + end, (stem + end).encode(), requires)
            yield FileAdded(name, version, file)
        for file in project.releases[version].files:
            yield FileRemoved(name, version, file.filename)
        yield ReleaseRemoved(name, version)
        yield from (Yanked(name, version, reason) for reason in REASONS)
        yield Unyanked(name, version)
