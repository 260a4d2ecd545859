"""Which build requirements count for a release of long ago, on a Python that may be younger."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

RIPENING = timedelta(days=90)  # after which most of what builds need has wheels for a new Python


@dataclass(frozen=True, slots=True)
class Youth:
    """When a Python came out, and when the first setuptools was there that works on it."""

    released: datetime
    setuptools: datetime


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


# The second column was found by building with one setuptools after the other; 3.14's is assumed.
PYTHONS: dict[tuple[int, ...], Youth] = {
    (3, 8): Youth(_day(2019, 10, 14), _day(2019, 2, 6)),  # 40.8.0, the first for setup.py alone
    (3, 9): Youth(_day(2020, 10, 5), _day(2019, 8, 14)),  # 41.1.0
    (3, 10): Youth(_day(2021, 10, 4), _day(2019, 8, 14)),
    (3, 11): Youth(_day(2022, 10, 24), _day(2019, 8, 14)),
    (3, 12): Youth(_day(2023, 10, 2), _day(2023, 1, 21)),  # 66.1.0
    (3, 13): Youth(_day(2024, 10, 7), _day(2023, 1, 21)),
    (3, 14): Youth(_day(2025, 10, 7), _day(2023, 1, 21)),
}

# The last Cython before 3.0 compiles all that older ones do, and for younger Pythons.
CYTHON_3 = _day(2023, 7, 17)


@dataclass(frozen=True, slots=True)
class Cutoff:
    """Only what was uploaded before counts. before: None for whatever there is.

    tools: for packages that drop what they once did, by name, instead of *before*.
    """

    before: datetime | None = None
    tools: dict[str, datetime] = field(default_factory=dict)


def cutoffs(moment: datetime | None, python: str) -> tuple[Cutoff, ...]:
    """The cutoffs to try for tools as of *moment* (None: the newest) on *python* (3.11.2).

    Each is for where the one before leaves something without any wheel: nobody made wheels for
    a Python that was not there yet, and the farm makes its own even later.
    """
    if moment is None:
        return (Cutoff(),)
    youth = PYTHONS.get(_minor(python), PYTHONS[max(PYTHONS)])
    era, ripe = max(moment, youth.setuptools), youth.released + RIPENING
    tools = {"setuptools": era, "wheel": era, "cython": max(era, CYTHON_3)}
    moments = [era, ripe, None] if era < ripe else [era, None]
    return tuple(Cutoff(before, tools) for before in moments)


def _minor(python: str) -> tuple[int, ...]:
    return tuple(map(int, python.split(".")[:2]))
