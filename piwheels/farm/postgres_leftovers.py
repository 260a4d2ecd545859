"""What an earlier server left when it, or the farm, was killed: processes and a pid file.

PostgreSQL itself refuses to start while a process of its uid has the pid that the file names,
be it a stranger's: after a reboot, or in a container, that is likely.
"""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from piwheels.model.errors import PiwheelsError


class StillRunning(PiwheelsError):
    """An earlier server does not end. The operator's to look at."""


def end_leftovers(cluster: Path, seconds: float = 30.0) -> None:
    """End servers that work on this cluster; then remove the pid file, which nobody owns now.

    The caller holds the farm's lock, so that such a server has lost its farm: most likely it
    is ending already. Raise StillRunning after *seconds*.
    """
    deadline = time.monotonic() + seconds
    # The server first: once it has ended, so have its workers.
    for pid in sorted(_servers(cluster), key=lambda pid: not _is_server(pid, cluster)):
        _end(pid, cluster, deadline)
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _servers(cluster: Path) -> Iterator[int]:
    """Pids of the server and its workers: each has the cluster as its working directory."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and _works_in(int(name), cluster):
            yield int(name)


def _works_in(pid: int, cluster: Path) -> bool:
    try:
        if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
            return False
        return Path(f"/proc/{pid}/cwd").readlink() == cluster
    except PermissionError:  # even root may not look there, in a container
        return _is_server(pid, cluster)
    except OSError:
        return False


def _is_server(pid: int, cluster: Path) -> bool:
    """Whether it was told to serve this cluster; its workers' words are other ones."""
    with suppress(OSError):
        return os.fsencode(cluster) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def _end(pid: int, cluster: Path, deadline: float) -> None:
    """Ask for a fast shutdown and wait."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if not _works_in(pid, cluster):
                return
            signal.pidfd_send_signal(handle, signal.SIGINT)
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            if not ended.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise StillRunning(
                    f"an earlier PostgreSQL (process {pid}) still works on {cluster}:"
                    f" end it with kill -INT {pid}, then start again"
                )
        finally:
            os.close(handle)
