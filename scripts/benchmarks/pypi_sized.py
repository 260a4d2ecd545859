"""A farm's database as if it had followed PyPI: of any size, with PyPI's proportions.

It is made by the statements of pypi_sized.sql, in sets. Of the queue, too, what waits of the
versions that were never tried; the others are left to the farm's own keeper. Whether the rule
agrees is checked on a sample of all.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.tags import compatible_tags, cpython_tags
from sqlalchemy import Connection, Engine, text

from piwheels.database import queue as queue_table
from piwheels.database.connection import connect
from piwheels.database.statements import COMMENT, HEADING
from piwheels.master import queue
from piwheels.master.keeper import Keeper
from piwheels.rules.queue import admits
from scripts.benchmarks.server import Database, Server

STATEMENTS = Path(__file__).with_suffix(".sql")

MINORS = (11, 13, 9, 12, 10, 14, 8)  # of targets' Pythons, by rank
GLIBCS = range(36, 16, -1)  # manylinux_2_36 down to 2_17: Debian 12
FOREIGN = (  # platforms of PyPI's own wheels
    "macosx_10_9_x86_64", "macosx_11_0_arm64", "manylinux_2_17_aarch64", "manylinux_2_17_i686",
    "manylinux_2_17_x86_64", "manylinux_2_28_aarch64", "manylinux_2_28_x86_64",
    "musllinux_1_2_aarch64", "musllinux_1_2_x86_64", "win32", "win_arm64",
)  # fmt: skip
PYTHONS = (  # Requires-Python, the usual ones first
    ">=3.6", ">=3.7", ">=3.8", ">=3.9", ">=3.10", ">=3.5", ">=3.7,<4.0", ">=3.8,<4.0",
    ">=2.7, !=3.0.*, !=3.1.*, !=3.2.*, !=3.3.*", ">=3.11", ">=3.8,<3.13", ">=3.12", "==2.7.*",
)  # fmt: skip
KINDS = (  # of failures, each as often as it stands here
    *["compile or source error"] * 10, *["missing header or tool"] * 5,
    *["build dependency unavailable"] * 3, *["legacy build tools"] * 3, "needs network", "timeout",
    "out of memory", "unsupported Python or platform", "bad sdist", "slave lost",
)  # fmt: skip

LOADING = {  # such a server loses everything in a power cut, and is then made anew
    "work_mem": "1GB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "8GB",
    "synchronous_commit": "off",
}

FORGET_PAGES = text("TRUNCATE page_jobs, site_jobs")
SAMPLE = text("""
    SELECT version_id FROM versions TABLESAMPLE SYSTEM (:percent) ORDER BY random() LIMIT :sample
""")


@dataclass(frozen=True, slots=True)
class Shape:
    """What is to be made. The rest are shares from 0 to 1.

    built: of what could be built. sdists: versions that have one. on_pypi: versions with
    wheels there; pure: of those. listed: packages with policy `all`, the others have `missing`.
    """

    packages: int
    versions: int
    targets: int = 5
    built: float = 0.6
    sdists: float = 0.86
    on_pypi: float = 0.6
    pure: float = 0.75
    listed: float = 0.005

    def tenth(self) -> "Shape":
        """The same with a tenth of the packages and versions."""
        return Shape(**asdict(self) | {key: getattr(self, key) // 10 for key in _COUNTED})


_COUNTED = ("packages", "versions")


def make(server: Server, name: str, shape: Shape) -> dict[str, float]:
    """Make the database *name* but for what is left to the rule; return seconds of each step."""
    database = server.create(name)
    server.set(LOADING)
    engine = connect(database.owner)
    try:
        with engine.begin() as connection:
            # Nothing can break a rule here; checking each row would take longer than making it.
            connection.execute(text("SET session_replication_role = replica"))
            connection.execute(text("SELECT setseed(0.5)"))
            took = dict(_run(connection, shape))
        began = time.perf_counter()
        vacuum(engine)
        took["vacuum and analyse"] = time.perf_counter() - began
    finally:
        engine.dispose()
        server.set(dict.fromkeys(LOADING, ""))
    return took


def judge(database: Database) -> tuple[int, float]:
    """Let the farm's keeper judge what is left to it; return how many versions, and seconds."""
    left = int(str(database.value("SELECT count(*) FROM rejudge")))
    engine = database.engine()
    keeper = Keeper(engine)
    began = time.perf_counter()
    while keeper.judge():
        pass
    seconds = time.perf_counter() - began
    engine.dispose()
    engine = connect(database.owner)
    with engine.begin() as connection:
        connection.execute(FORGET_PAGES)  # nobody is there to write them
    vacuum(engine)
    engine.dispose()
    return left, seconds


def check(database: Database, shape: Shape, sample: int) -> int:
    """Judge *sample* versions anew; return how many of their rows in the queue are wrong: none,
    if what was made is as the rule has it.
    """
    engine = database.engine()
    with engine.connect() as connection:
        parameters = {"sample": sample, "percent": min(100.0, 200 * sample / shape.versions)}
        ids = list(connection.execute(SAMPLE, parameters).scalars())
        before = set(queue_table.rows(connection, ids))
        queue.refresh(connection, ids)
        after = set(queue_table.rows(connection, ids))
        connection.rollback()
    engine.dispose()
    return len(before ^ after)


def vacuum(engine: Engine) -> None:
    """Leave the database as it is after a quiet night."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))


def _run(connection: Connection, shape: Shape) -> Iterator[tuple[str, float]]:
    parameters = _parameters(shape)
    for name, statement in _statements().items():
        began = time.perf_counter()
        connection.execute(text(statement), parameters)
        yield name.replace("_", " "), time.perf_counter() - began


def _parameters(shape: Shape) -> dict[str, Any]:
    return asdict(shape) | {
        "targets": json.dumps([target(rank) for rank in range(shape.targets)]),
        "platforms": list(FOREIGN),
        "pythons": list(PYTHONS),
        "kinds": list(KINDS),
        "admitted": json.dumps(
            [
                {"requires_python": spelling, "rank": rank}
                for spelling in ("", *PYTHONS)
                for rank in range(shape.targets)
                if admits(spelling, target(rank)["python"])
            ]
        ),
    }


def _statements() -> Mapping[str, str]:
    _, *parts = HEADING.split(STATEMENTS.read_text(encoding="utf-8"))
    return {
        name: COMMENT.sub("", body).strip().rstrip(";")
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def target(rank: int) -> dict[str, Any]:
    """A Raspberry Pi's Python, one for each rank: its name, label, python, rank, tags."""
    minor = MINORS[rank]
    platforms = [f"manylinux_2_{glibc}_armv7l" for glibc in GLIBCS] + ["linux_armv7l"]
    tags = [
        *cpython_tags((3, minor), [f"cp3{minor}"], platforms),
        *compatible_tags((3, minor), f"cp3{minor}", platforms),
    ]
    return {
        "name": f"cp3{minor}-linux_armv7l",
        "label": f"CPython 3.{minor} on Debian 12",
        "python": f"3.{minor}.2",
        "rank": rank,
        "tags": sorted(map(str, tags)),
    }
