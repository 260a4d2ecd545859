"""Which slave may take which build, and what the build may use there.

Sizes class slaves by memory: a slave of size n has about 256 MiB times two to the n. A build
waits for slaves of at least one size. Few sizes keep claims cheap: each is one probe of an
index, and a small slave never reads past what only large ones can take.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import ceil, floor, log2

from piwheels.model.builds import FailureClass, Limits

SMALLEST = 256 * 1024**2  # bytes: what a slave of size 0 has at least
LARGEST_SIZE = 12
RESERVED = 1.1  # a machine sold with 1 GiB reports some 0.92
MARGIN = 1.25  # over the most that past builds took

PATIENCE = 3  # times the limit, for a build that ran into it
LONGEST = 5  # times what past builds took, if that is longer than the limit

LEAST_DISK = 1024**3  # bytes free; below that a slave gets no work
LEAST_MEMORY = 64 * 1024**2
HOTTEST = 95.0  # degrees Celsius


def size_of(memory: int) -> int:
    """The size of a slave with so many bytes of memory."""
    return max(0, min(LARGEST_SIZE, floor(log2(max(1, memory) * RESERVED / SMALLEST))))


def size_for(peak_memory: int) -> int:
    """The size of slave for a build like one that took so many bytes."""
    return max(0, min(LARGEST_SIZE, ceil(log2(max(1, peak_memory) * MARGIN / SMALLEST))))


def in_words(size: int) -> str:
    """The memory of slaves of that size, for people."""
    mebibytes = (SMALLEST >> 20) << size
    return f"{mebibytes} MiB" if mebibytes < 1024 else f"{mebibytes >> 10} GiB"


def limits(usual: Limits, seconds: float, failures: Iterable[FailureClass]) -> Limits:
    """What a build may use. seconds: what past builds of the package took, 0 if unknown.

    A limit that a build ran into is tripled for the attempt after it.
    """
    granted = replace(usual, seconds=_at_least(usual.seconds, seconds * LONGEST))
    for kind in set(failures):
        match kind:
            case FailureClass.TIMEOUT:
                granted = replace(granted, seconds=granted.seconds * PATIENCE)
            case FailureClass.SILENT:
                granted = replace(granted, silence=granted.silence * PATIENCE)
            case FailureClass.TOO_MUCH_OUTPUT:
                granted = replace(granted, output=granted.output * PATIENCE)
    return granted


def usually(before: float | None, now: float) -> float:
    """What builds of a package take: rises at once, falls slowly. before: None at first."""
    return now if before is None else max(now, (3 * before + now) / 4)


def _at_least(limit: float, wanted: float) -> float:
    """Zero means no limit."""
    return limit and max(limit, wanted)


def unfit(disk_free: int | None, memory_free: int | None, temperature: float | None) -> str:
    """Why a slave gets no work as it is, or ''. Bytes and degrees; None where it does not say."""
    if disk_free is not None and disk_free < LEAST_DISK:
        return f"its disk has only {disk_free >> 20} MiB free: make room on it"
    if memory_free is not None and memory_free < LEAST_MEMORY:
        return f"it has only {memory_free >> 20} MiB of memory free: end what takes it"
    if temperature is not None and temperature > HOTTEST:
        return f"it is {temperature:.0f} °C hot: cool it"
    return ""
