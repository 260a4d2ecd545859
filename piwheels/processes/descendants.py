"""Ending a process with everything that it started, however hard that tries to escape.

Parentage is the one thing that a process cannot forge: setsid, a new process group and a
double fork leave it a descendant of the nearest subreaper above it. So whoever starts
strangers' code lets that code's first process become a subreaper (between fork and exec,
`become_subreaper` of piwheels.processes.prctl) and is one itself: as long as that first
process lives, all that it caused is below it (kill_tree), and what it leaves behind when it
ends comes to us (kill_orphans).
"""

import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from piwheels.model.errors import PiwheelsError

_DEAD = frozenset("ZX")
_PAGE = 65536  # no kernel's page is larger: a smaller read might cut a pid in two


class StillAlive(PiwheelsError):
    """Processes outlived SIGKILL: they belong to others, or the kernel holds them in I/O."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told from a later one with the same pid by its start, in ticks since boot."""

    pid: int
    started: int
    parent: int = field(compare=False)
    state: str = field(compare=False)
    threads: int = field(compare=False)

    @classmethod
    def read(cls, pid: int) -> "Process | None":
        """Read /proc/<pid>/stat; None if there is no such process. Source: proc(5)."""
        try:
            text = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The name, in parentheses, may hold anything, even parentheses and spaces.
        fields = text[text.rindex(b")") + 2 :].split()
        return cls(
            pid=pid,
            started=int(fields[19]),
            parent=int(fields[1]),
            state=fields[0].decode(),
            threads=int(fields[17]),
        )

    @property
    def is_alive(self) -> bool:
        """Whether it can still do anything: the dead that nobody waited for cannot.

        A main thread that ended looks dead, though its process lives while others run.
        """
        return self.state not in _DEAD or self.threads > 1


def descendants(pid: int) -> set[Process]:
    """All processes below *pid* that are alive."""
    return {process for process in _below(_children_by_parent(), pid) if process.is_alive}


def kill_tree(pid: int, seconds: float = 10.0) -> None:
    """Kill a descendant of this process with all below it; leave *pid* itself to be waited for.

    Nothing happens if it is no descendant or is dead. Raise StillAlive after *seconds*.
    """
    root = next((process for process in descendants(os.getpid()) if process.pid == pid), None)
    if root is None:
        return
    deadline = time.monotonic() + seconds
    send(root, signal.SIGSTOP)
    dead = _kill_all(lambda: set(_below(_children_by_parent(), pid)), pid, deadline)
    # The root goes last: what it collects as a subreaper would else be lost among our own.
    send(root, signal.SIGKILL)
    _await_death(root, deadline)
    _reap(process.pid for process in dead)


def kill_orphans(spared: Collection[int], seconds: float = 10.0) -> None:
    """Kill and reap this process's children that are not *spared*, with all below them.

    For a subreaper: such children were left behind by processes that ended. spared: pids of
    the children that this process started and still needs; no thread of it may be starting
    or waiting for others meanwhile. Raise StillAlive after *seconds*.
    """
    deadline = time.monotonic() + seconds
    dead = _kill_all(lambda: _orphans(spared), os.getpid(), deadline, spared)
    _reap(process.pid for process in dead)


def _orphans(spared: Collection[int]) -> set[Process]:
    children = _children_by_parent()
    orphans = {process for process in children.get(os.getpid(), ()) if process.pid not in spared}
    return orphans.union(*(_below(children, process.pid) for process in orphans))


def _kill_all(
    look: Callable[[], set[Process]],
    reaper: int,
    deadline: float,
    spared: Collection[int] = (),
) -> set[Process]:
    """Kill what *look* finds until all of it is dead. Return the dead.

    reaper: the process that orphans come to, and that waits for none of them meanwhile. So
    the dead stay, and show what looking alone cannot, since /proc is not read in one instant:
    whoever lived during a look without being seen has a dead ancestor that is new since the
    look before. Two looks in a row that find the same dead and nobody alive are proof.
    """
    dead: set[Process] | None = None
    while True:
        found = _stop_all(look, deadline)
        alive = {process for process in found if process.is_alive}
        if not alive and found == dead:
            return found
        if not alive and dead is not None and found > dead:
            _chase(reaper, spared, deadline)
        dead = None if alive else found
        for process in alive:
            send(process, signal.SIGKILL)
        for process in alive:
            _await_death(process, deadline)


def _stop_all(look: Callable[[], set[Process]], deadline: float) -> set[Process]:
    """Stop those alive until a look finds no new ones. Return what the last look found.

    All are stopped before any is killed: a death frees a place under a limit of processes,
    for another to fork into.
    """
    stopped: set[Process] = set()
    while True:
        found = look()
        fresh = {process for process in found if process.is_alive} - stopped
        if not fresh:
            return found
        if time.monotonic() > deadline:
            raise _still_alive(fresh)
        for process in fresh:
            send(process, signal.SIGSTOP)
        stopped |= fresh


def _chase(reaper: int, spared: Collection[int], deadline: float) -> None:
    """Kill a chain of processes, each of which forks the next and ends, by being faster.

    A look at all of /proc takes longer than such a process lives. But each becomes the
    reaper's child when the one before it ends, and the kernel's list of children can be read
    on from its end, as a log is followed. No pid in it is reused: its dead are not waited for.
    """
    until = min(deadline, time.monotonic() + 0.2)
    with ExitStack() as files:
        lists = [
            files.enter_context(path.open("rb", buffering=0))
            for path in Path(f"/proc/{reaper}/task").glob("*/children")
        ]
        while time.monotonic() < until:
            for pids in lists:
                for pid in pids.read(_PAGE).split():
                    if int(pid) not in spared:
                        with suppress(ProcessLookupError, PermissionError):
                            os.kill(int(pid), signal.SIGKILL)


def send(process: Process, number: signal.Signals) -> None:
    """Signal this very process, or nobody: between finding and signalling pids are reused."""
    with suppress(ProcessLookupError, PermissionError):
        handle = os.pidfd_open(process.pid)
        try:
            if Process.read(process.pid) == process:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _await_death(process: Process, deadline: float) -> None:
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            if Process.read(process.pid) != process:
                return
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            if not ended.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise _still_alive({process})
        finally:
            os.close(handle)


def _still_alive(processes: Collection[Process]) -> StillAlive:
    pids = ", ".join(str(process.pid) for process in processes)
    return StillAlive(f"could not kill process {pids}: see what holds it with ps -l -p PID")


def _reap(pids: Iterator[int]) -> None:
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _below(children: Mapping[int, list[Process]], pid: int) -> Iterator[Process]:
    """Walk down, through the dead too: before they are waited for they may have children."""
    waiting = list(children.get(pid, ()))
    while waiting:
        process = waiting.pop()
        yield process
        waiting += children.get(process.pid, ())


def _children_by_parent() -> dict[int, list[Process]]:
    children: dict[int, list[Process]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and (process := Process.read(int(name))):
            children.setdefault(process.parent, []).append(process)
    return children
