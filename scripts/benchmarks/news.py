"""From a version that is newly wanted to the slave that gets it.

Run as a program it is the one who waits: woken by the database it claims, and prints the
build and the moment when its claim was committed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from sqlalchemy import Engine, text

from piwheels.database import leases, versions
from piwheels.database.connection import WakeUps, connect, transaction
from piwheels.master.claims import draw_token
from piwheels.master.queue import refresh
from piwheels.model.builds import Sdist
from piwheels.model.projects import ProjectPage, ProjectVersion
from piwheels.model.queue import Lane
from piwheels.rules.project_diff import diff
from piwheels.rules.resources import LARGEST_SIZE
from scripts.benchmarks.claims import LEASE_SECONDS, TARGETS, enter_slaves
from scripts.benchmarks.machine import CHECKOUT
from scripts.benchmarks.result import BenchmarkFailed

FORGET = text("DELETE FROM packages WHERE name = :name")


class Listener:
    """A slave's place at the queue, waiting in a process of its own."""

    def __init__(self, said: IO[str]) -> None:
        self.said = said

    def heard(self) -> tuple[str, float]:
        """The package that it claimed next, and when. Raise BenchmarkFailed if it ended."""
        line = self.said.readline()
        if not line:
            raise BenchmarkFailed("the listener ended: see above")
        package, at = json.loads(line)
        return package, at


@contextmanager
def listening(dsn: str) -> Iterator[Listener]:
    """A listener that waits."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=CHECKOUT,
        env={**os.environ, "BENCH_DSN": dsn},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        listener = Listener(process.stdout)
        listener.heard()  # that it is ready
        yield listener
    finally:
        process.terminate()
        process.wait()


def announce(engine: Engine, package: str) -> float:
    """Want the first version of a new *package*, as piw-add does; return when it was committed.

    That is the moment before the commit: what it takes is part of what is measured.
    """
    sdist = Sdist(f"{package}-1.0.tar.gz", f"https://files.example/{package}", "a" * 64, 1)
    page = ProjectPage(package, package, (ProjectVersion("1.0", sdist=sdist),))
    with transaction(engine) as connection:
        versions.enter(connection, page)
        changes = diff(versions.known(connection, package), page)
        versions.apply(connection, page, changes)
        refresh(connection, [versions.want(connection, package, "1.0", Lane.MANUAL)])
        return time.monotonic()


def until_claimed(engine: Engine, listener: Listener, package: str) -> float:
    """Seconds from the commit that wants a new *package* to that of the listener's claim."""
    began = announce(engine, package)
    claimed, at = listener.heard()
    if claimed != package:
        raise BenchmarkFailed(f"{package} was to be claimed, and {claimed} was")
    with transaction(engine) as connection:
        connection.execute(FORGET, {"name": package})
    return at - began


def main() -> None:
    """Be the listener."""
    engine = connect(os.environ["BENCH_DSN"], is_probing=True)
    with engine.connect() as connection:
        target_id = connection.execute(TARGETS).scalars().first()
    assert target_id is not None
    (speaker,) = enter_slaves(engine, f"listener-{os.getpid()}", 1, [target_id])
    with WakeUps(engine, "queue") as wake_ups:
        print(json.dumps(["", 0.0]), flush=True)
        while True:
            if wake_ups.wait(1.0) and (package := _claim(engine, speaker.slave, target_id)):
                print(json.dumps([package, time.monotonic()]), flush=True)


def _claim(engine: Engine, slave_id: int, target_id: int) -> str:
    """The package of what could be claimed, or ''.

    Only what people ask for: nothing else is in that lane, so that what others give back
    meanwhile is not taken for news.
    """
    asker = (slave_id, draw_token())
    alone = leases.Alike(target_id, LARGEST_SIZE, (asker,), Lane.MANUAL, Lane.MANUAL)
    with transaction(engine) as connection:
        orders = leases.claim(connection, [alone], LEASE_SECONDS)
    return next((order.package for order in orders.values()), "")


if __name__ == "__main__":
    main()
