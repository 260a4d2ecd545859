"""What a benchmark hands back."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class BenchmarkFailed(Exception):
    """There is nothing to report: what was to be measured did not happen. The text says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people; all but the first column are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured. samples: everything, as it came; figures: what that comes to.

    Both hold JSON values. facts: of what took part, beside what is known of every machine.
    """

    samples: Sequence[Mapping[str, Any]]
    figures: Mapping[str, Any]
    tables: Sequence[Table]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing, in their own unit."""

    median: float
    lowest: float
    highest: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of *values*. Raise BenchmarkFailed if there are none."""
        if not values:
            raise BenchmarkFailed("nothing was measured")
        return cls(statistics.median(values), min(values), max(values), len(values))
