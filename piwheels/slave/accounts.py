"""The user a build runs as when the slave is root: one for each build that runs now."""

import fcntl
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from piwheels.processes.privileges import dynamic_uid, run_as

CLAIMS = Path("/run/piwheels-builds")


@contextmanager
def claim() -> Iterator[int]:
    """A uid that no other build on this machine has while the context lasts (root only)."""
    CLAIMS.mkdir(mode=0o700, exist_ok=True)
    for slot in itertools.count():
        uid = dynamic_uid(slot)
        with open(CLAIMS / str(uid), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            kill_all_of(uid)  # a slave that was killed may have left a build behind
            try:
                yield uid
            finally:
                kill_all_of(uid)
            return


def kill_all_of(uid: int) -> None:
    """Kill every process of *uid* at once: kill(-1) leaves no moment to fork away."""
    words = [*run_as(uid, uid), "/bin/sh", "-c", "kill -KILL -1"]
    subprocess.run(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def give(path: Path, uid: int) -> None:
    """Make *uid* the owner of *path* and all below it, following no link."""
    os.lchown(path, uid, uid)
    for parent, directories, files in os.walk(path):
        for name in (*directories, *files):
            os.lchown(os.path.join(parent, name), uid, uid)
