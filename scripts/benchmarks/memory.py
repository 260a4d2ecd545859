"""What processes occupy: PSS, where each of n processes that share a page counts an n-th of it.

So sums are right, unlike sums of resident sizes. Linux: /proc/PID/smaps_rollup.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from scripts.benchmarks.result import BenchmarkFailed


def pss(pid: int) -> int:
    """Bytes of one process. Raise BenchmarkFailed if it cannot be read."""
    try:
        return _pss(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))
    except OSError as error:
        raise BenchmarkFailed(f"the memory of process {pid}: {error.strerror}") from error


def pss_of_tree(pid: int) -> int:
    """Bytes of a process and all below it; those that end meanwhile count nothing."""
    below = psutil.Process(pid).children(recursive=True)
    return pss(pid) + sum(_pss_if_there(process.pid) for process in below)


def by_name(pids: Mapping[str, int], with_children: Iterable[str] = ()) -> dict[str, int]:
    """Bytes of each process; for those in *with_children*, of all below it too."""
    whole = set(with_children)
    return {name: (pss_of_tree if name in whole else pss)(pid) for name, pid in pids.items()}


def _pss_if_there(pid: int) -> int:
    try:
        return pss(pid)
    except BenchmarkFailed:
        if psutil.pid_exists(pid):
            raise
        return 0


def _pss(rollup: str) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    if found is None:
        raise BenchmarkFailed("the kernel does not tell the PSS of processes")
    return int(found[1]) * 1024
