"""How long single things took, when there are many of them: the rare slow one counts too."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from scripts.benchmarks.result import BenchmarkFailed


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds. p99: of a hundred, the slowest but one takes that long."""

    median: float
    p99: float
    highest: float
    count: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """What *seconds* come to. Raise BenchmarkFailed if there are none."""
        if not seconds:
            raise BenchmarkFailed("nothing was measured")
        ordered = sorted(seconds)
        return cls(_at(ordered, 0.5), _at(ordered, 0.99), ordered[-1], len(ordered))

    def cells(self) -> tuple[str, ...]:
        """Median, p99 and highest for a table, in milliseconds."""
        return tuple(f"{value * 1000:.2f}" for value in (self.median, self.p99, self.highest))


CELLS = ("median", "p99", "max")


def _at(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least *share* of all do not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
