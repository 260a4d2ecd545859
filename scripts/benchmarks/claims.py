"""Claims as the dispatcher makes them, measured; and the slaves that make them.

Run as a program it claims without pause until its standard input ends, and then prints what
each claim took, as JSON.
"""

import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, text

from piwheels.database.connection import connect, transaction
from piwheels.master.claims import draw_token, grant
from piwheels.master.queue import refresh
from piwheels.rules.lanes import favoured
from piwheels.rules.slave_session import Speaker
from scripts.benchmarks.machine import CHECKOUT
from scripts.benchmarks.result import BenchmarkFailed

LEASE_SECONDS = 3_600.0
END_SECONDS = 60.0

PUT_SLAVES = text("""
    INSERT INTO slaves (label, target_id, cores, memory, disk, sandbox, run, size)
    SELECT format(:label, number), (CAST(:target_ids AS smallint[]))[
        1 + number % cardinality(CAST(:target_ids AS smallint[]))], 4, 4::bigint << 30,
        64::bigint << 30, 'L2', :run, 4
    FROM generate_series(1, CAST(:number AS integer)) AS number
    RETURNING slave_id
""")
FREE = text("""
    DELETE FROM leases WHERE slave_id = ANY(:slave_ids) RETURNING version_id
""")
TARGETS = text("SELECT target_id FROM targets WHERE active ORDER BY rank")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A transaction that claimed. began: monotonic seconds; builds: that it got."""

    began: float
    seconds: float
    builds: int


def enter_slaves(
    engine: Engine, label: str, number: int, target_ids: Sequence[int] = ()
) -> list[Speaker]:
    """New slaves called *label* and a number, of all active targets in turn, or of these."""
    run = secrets.token_bytes(16)
    with transaction(engine) as connection:
        chosen = list(target_ids) or list(connection.execute(TARGETS).scalars())
        parameters = {"label": f"{label}-%s", "number": number, "target_ids": chosen, "run": run}
        found = connection.execute(PUT_SLAVES, parameters).scalars()
        return [Speaker(slave_id, run) for slave_id in found]


def claim(engine: Engine, speakers: Sequence[Speaker], is_by_lot: bool = True) -> Claimed:
    """Grant each of *speakers* a build in one transaction. is_by_lot: as rules.lanes has it."""
    began = time.monotonic()
    draw = draw_token if is_by_lot else _draw_in_order
    with transaction(engine) as connection:
        answers, _ = grant(connection, speakers, LEASE_SECONDS, draw)
    seconds = time.monotonic() - began
    return Claimed(began, seconds, sum(hasattr(each, "build_id") for each in answers.values()))


def give_back(engine: Engine, speakers: Sequence[Speaker]) -> None:
    """End the leases of these slaves, so that all they hold waits again."""
    for first in range(0, len(speakers), 500):
        slave_ids = [speaker.slave for speaker in speakers[first : first + 500]]
        with transaction(engine) as connection:
            freed = connection.execute(FREE, {"slave_ids": slave_ids}).scalars().all()
            refresh(connection, freed)


def _draw_in_order() -> bytes:
    """A token that takes its turn."""
    while favoured(token := draw_token()) is not None:
        pass
    return token


@contextmanager
def claiming(dsn: str) -> Iterator[list[Claimed]]:
    """Claim without pause, in a process of its own; the list is filled at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=CHECKOUT,
        env={**os.environ, "BENCH_DSN": dsn},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: list[Claimed] = []
    try:
        yield found
        said, _ = process.communicate(timeout=END_SECONDS)
        if process.returncode:
            raise BenchmarkFailed("claims failed: see above")
        found += [Claimed(*values) for values in json.loads(said)]
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Be the process."""
    engine = connect(os.environ["BENCH_DSN"], is_probing=True)
    with engine.connect() as connection:
        target_ids = list(connection.execute(TARGETS).scalars())
    # News comes for the first target, and is for whoever waits there.
    speakers = enter_slaves(engine, f"claimer-{os.getpid()}", 200, target_ids[1:])
    found: list[Claimed] = []
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        turn = len(found) % len(speakers)
        found.append(claim(engine, [speakers[turn]]))
        if turn == len(speakers) - 1:
            give_back(engine, speakers)
    give_back(engine, speakers)
    print(json.dumps([(each.began, each.seconds, each.builds) for each in found]))


if __name__ == "__main__":
    main()
