"""In place of the receiver: says of the files that leases await that they are there.

It moves no bytes and looks at none. Leases come in on standard input and go out on standard
output, 16 bytes each, once what it says of their files is committed; all that came while it
was at work goes into one statement. It runs in a process of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg2

from scripts.benchmarks.machine import CHECKOUT
from scripts.benchmarks.server import plain

TOKEN_BYTES = 16
MOST_BYTES = 64 * 1024

PLACE = """
    UPDATE uploads SET placed = CASE name WHEN 'build-log.txt'
        THEN jsonb_build_object('log', format('logs/0000/0000/%%s.txt.gz', build_id))
        ELSE jsonb_build_object('name', name, 'size', size, 'sha256', sha256,
            'metadata_sha256', sha256, 'requires_python', '', 'summary', '',
            'tags', ARRAY[replace(target, '-', '-' || split_part(target, '-', 1) || '-')])
        END
    FROM (
        SELECT build_id AS of_build, targets.name AS target
        FROM leases JOIN targets USING (target_id) WHERE token = ANY(%s)
    ) AS awaiting
    WHERE build_id = of_build
"""


class Placer:
    """The process, as its user sees it. descriptor: can be read when files are there."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self.inlet = process.stdin.fileno()
        self.descriptor = process.stdout.fileno()

    def deliver(self, lease: bytes) -> None:
        """Have the files of this lease placed."""
        os.write(self.inlet, lease)

    def placed(self) -> Sequence[bytes]:
        """The leases whose files are there since the last call."""
        return _tokens(os.read(self.descriptor, MOST_BYTES))


@contextmanager
def running_placer(dsn: str) -> Iterator[Placer]:
    """Run it on the database *dsn*."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        cwd=CHECKOUT,
        env={**os.environ, "BENCH_DSN": dsn},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Placer(process)
    finally:
        process.communicate()  # it ends with its input


def _tokens(text: bytes) -> list[bytes]:
    # Writes of few bytes to a pipe are whole, and so is the sum of what is read.
    return [text[place : place + TOKEN_BYTES] for place in range(0, len(text), TOKEN_BYTES)]


def main() -> None:
    """Be the process."""
    connection = psycopg2.connect(plain(os.environ["BENCH_DSN"]))
    connection.autocommit = True
    with connection.cursor() as cursor:
        while text := os.read(0, MOST_BYTES):
            cursor.execute(PLACE, [[psycopg2.Binary(token) for token in _tokens(text)]])
            os.write(1, text)


if __name__ == "__main__":
    main()
