"""The queue at the size of PyPI: claims, news, what one version costs, one more target.

The database is made (scripts.benchmarks.pypi_sized), and what is measured goes through the
farm's own functions and services, on a durable PostgreSQL with the farm's settings. With
--compare all of it is done at a tenth of the size too: what does not depend on the size has a
ratio near 1.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from piwheels.database import leases
from piwheels.database.connection import transaction
from piwheels.database.statements import statement
from piwheels.master.queue import refresh
from piwheels.model.queue import Lane
from piwheels.model.targets import TargetOffer
from piwheels.rules.slave_session import Speaker
from scripts.benchmarks import claims, news, pypi_sized
from scripts.benchmarks.latency import CELLS, Latency
from scripts.benchmarks.pypi_sized import Shape
from scripts.benchmarks.result import BenchmarkFailed, Result, Table
from scripts.benchmarks.server import Database, Server, running_server
from scripts.benchmarks.services import cpu_seconds, running_service

NAME = "queue"

AIMS = {
    "single claims": "< 2 ms median, < 20 ms p99",
    "news to claim": "< 1000 ms",
}
MEASURED = "measured"  # the copy that is measured; what was made stays as it was
TOGETHER = 64  # claims in one transaction: so many slaves are answered in one turn
LARGE = 1_000  # versions in one refresh
LARGE_REFRESHES = 10
# Of as many single claims as were asked for, there are so many of the others.
NEWS, REFRESHES = 0.1, 0.25
GLANCE = 0.05  # seconds
LARGEST_TABLES = 8
SAMPLE = 2_000  # versions of which the rule is asked whether the data is right

SIZES = text("""
    SELECT relname AS name, pg_total_relation_size(oid) AS bytes
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    ORDER BY 2 DESC LIMIT :most
""")
RANDOM_VERSIONS = text("""
    SELECT version_id FROM versions TABLESAMPLE SYSTEM (:percent) WHERE lane IS NOT NULL
    ORDER BY random() LIMIT :most
""")
IS_CLAIMABLE = text("SELECT EXISTS (SELECT FROM queue WHERE target_id = :target_id AND ready)")
LEFT = text("SELECT COALESCE(sum(last::bigint - first + 1), 0) FROM rejudge")
NEWEST_VERSION = text("SELECT max(version_id) FROM versions")


@dataclass(frozen=True, slots=True)
class Made:
    """How a database came to be. judged: versions that the keeper judged, in *judging* seconds."""

    steps: Mapping[str, float]
    judged: int
    judging: float


@dataclass(frozen=True, slots=True)
class Activated:
    """One more target. first: seconds until a row could be claimed; judged: versions in *seconds*,
    of *versions* in all. cpu: seconds of the keeper and of PostgreSQL, the claims included.
    """

    first: float
    judged: int
    versions: int
    seconds: float
    keeper_cpu: float
    postgres_cpu: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What single things took: seconds of each. cpu: of ours and of PostgreSQL, for all of them."""

    seconds: Sequence[float]
    cpu: tuple[float, float] = (0.0, 0.0)

    def cells(self) -> tuple[str, ...]:
        """Milliseconds of processor time for one of them; nothing where others shared it."""
        return tuple(f"{used / len(self.seconds) * 1000:.2f}" if used else "" for used in self.cpu)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything about one size. samples: by what was done."""

    shape: Shape
    made: Made
    bytes: int
    tables: Mapping[str, int]
    waiting: int
    samples: Mapping[str, Taken]
    activated: Activated | None
    plan: str

    @property
    def latencies(self) -> dict[str, Latency]:
        """What the samples come to."""
        return {
            name: Latency.of(taken.seconds)
            for name, taken in self.samples.items()
            if taken.seconds  # a small database is judged before anything else happens
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--packages", type=int, default=2_000, metavar="N", help="(2000)")
    parser.add_argument("--versions", type=int, default=20_000, metavar="N", help="(20000)")
    parser.add_argument(
        "--targets", type=int, default=5, choices=range(1, 7), metavar="N", help="1 to 6 (5)"
    )
    parser.add_argument(
        "--built", type=float, default=0.6, metavar="SHARE", help="of what could be built (0.6)"
    )
    parser.add_argument(
        "--samples", type=int, default=2_000, metavar="N", help="claims; of others fewer (2000)"
    )
    parser.add_argument(
        "--activation",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="watch one more target being activated for so long, 0: not at all (60)",
    )
    parser.add_argument("--compare", action="store_true", help="with a tenth of the size")
    parser.add_argument("--explain", action="store_true", help="show the plan of a claim")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep what is made there, use what is there"
    )


def run(options: argparse.Namespace) -> Result:
    """Measure. Raise BenchmarkFailed."""
    shape = Shape(options.packages, options.versions, options.targets, options.built)
    shapes = [shape, shape.tenth()] if options.compare else [shape]
    with _folder(options.keep) as folder, running_server(folder / "postgresql") as server:
        found = [_measure(server, each, folder, options) for each in shapes]
        return _result(found, server.version())


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(mode=0o711, parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user, below it
        yield folder


# Making


def _measure(server: Server, shape: Shape, folder: Path, options: argparse.Namespace) -> Measured:
    name = f"pypi_{shape.packages}_{shape.versions}_{shape.targets}_{round(shape.built * 100)}"
    made = _make(server, name, shape, folder)
    database = server.create(MEASURED, template=name)
    server.checkpoint()
    try:
        return _measure_database(server, database, shape, made, folder, options)
    finally:
        server.drop(MEASURED)


def _make(server: Server, name: str, shape: Shape, folder: Path) -> Made:
    """Make the database, unless it is there; how that went lies beside it."""
    record = folder / f"{name}.json"
    if record.exists() and server.has(name):
        return Made(**json.loads(record.read_text(encoding="utf-8")))
    record.unlink(missing_ok=True)
    steps = pypi_sized.make(server, name, shape)
    judged, judging = pypi_sized.judge(server.database(name))
    if wrong := pypi_sized.check(server.database(name), shape, SAMPLE):
        raise BenchmarkFailed(f"of what was made, {wrong} rows are not what the rule says")
    made = Made(steps, judged, judging)
    record.write_text(json.dumps(asdict(made)), encoding="utf-8")
    return made


# Measuring


def _measure_database(
    server: Server,
    database: Database,
    shape: Shape,
    made: Made,
    folder: Path,
    options: argparse.Namespace,
) -> Measured:
    engine = database.engine()
    with engine.connect() as connection:
        tables = {
            row.name: row.bytes for row in connection.execute(SIZES, {"most": LARGEST_TABLES})
        }
    size = int(str(database.value("SELECT pg_database_size(current_database())")))
    waiting = int(str(database.value("SELECT count(*) FROM queue")))
    samples = {
        **_claims(server, engine, min(options.samples, waiting // 10)),
        **_news(engine, database, round(options.samples * NEWS)),
        **_refreshes(server, engine, shape, round(options.samples * REFRESHES)),
    }
    plan = _plan(engine) if options.explain else ""
    activated = None
    if options.activation:
        activated, beside = _activate(server, database, folder, options.activation)
        samples |= beside
    engine.dispose()
    return Measured(shape, made, size, tables, waiting, samples, activated, plan)


def _take(server: Server, acts: Sequence[Callable[[], float]]) -> Taken:
    """Do all, one after the other."""
    before = time.process_time(), cpu_seconds(server.pid, with_children=True)
    seconds = [act() for act in acts]
    own = time.process_time() - before[0]
    return Taken(seconds, (own, cpu_seconds(server.pid, with_children=True) - before[1]))


def _claims(server: Server, engine: Engine, number: int) -> dict[str, Taken]:
    singles = claims.enter_slaves(engine, "single", number)
    alone = _take(server, [partial(_claim, engine, [speaker]) for speaker in singles])
    claims.give_back(engine, singles)
    many = claims.enter_slaves(engine, "together", max(number, TOGETHER))
    turns = [many[first : first + TOGETHER] for first in range(0, len(many), TOGETHER)]
    together = _take(server, [partial(_claim, engine, speakers) for speakers in turns])
    claims.give_back(engine, many)
    return {"single claims": alone, f"{TOGETHER} claims together": together}


def _claim(engine: Engine, speakers: Sequence[Speaker]) -> float:
    claimed = claims.claim(engine, speakers)
    if not claimed.builds:
        raise BenchmarkFailed("too little waits for so many claims: make more versions")
    return claimed.seconds


def _news(engine: Engine, database: Database, most: int) -> dict[str, Taken]:
    with news.listening(database.daemon) as listener:
        waits = [_wait_for_news(engine, listener, number) for number in range(most)]
    return {"news to claim": Taken(waits)}


def _wait_for_news(engine: Engine, listener: news.Listener, number: int) -> float:
    return news.until_claimed(engine, listener, f"news-{number}")


def _refreshes(server: Server, engine: Engine, shape: Shape, most: int) -> dict[str, Taken]:
    wanted = most + LARGE * LARGE_REFRESHES
    percent = min(100.0, 400.0 * wanted / shape.versions)
    with engine.connect() as connection:
        parameters = {"percent": percent, "most": wanted}
        chosen = list(connection.execute(RANDOM_VERSIONS, parameters).scalars())
    ones, rest = chosen[:most], chosen[most:]
    batches = [rest[first : first + LARGE] for first in range(0, len(rest), LARGE)]
    return {
        "refresh of one version": _take(server, [partial(_refresh, engine, [one]) for one in ones]),
        f"refresh of {LARGE}": _take(server, [partial(_refresh, engine, each) for each in batches]),
    }


def _refresh(engine: Engine, version_ids: Sequence[int]) -> float:
    began = time.perf_counter()
    with transaction(engine) as connection:
        refresh(connection, version_ids)
    return time.perf_counter() - began


def _activate(
    server: Server, database: Database, folder: Path, limit: float
) -> tuple[Activated, dict[str, Taken]]:
    """Activate one more target, and watch until all is judged, or for *limit* seconds.

    Claims go on all the while, and news comes.
    """
    engine = database.engine()
    offered = pypi_sized.target(len(pypi_sized.MINORS) - 1)
    offer = TargetOffer(*(offered[name] for name in ("name", "label", "python", "tags")))
    waits: list[float] = []
    with (
        running_service("keeper", database.daemon, folder) as keeper,
        news.listening(database.daemon) as listener,
        claims.claiming(database.daemon) as claimed,
    ):
        _wait_until_claims(engine)
        before = (cpu_seconds(keeper.pid), cpu_seconds(server.pid, with_children=True))
        began = time.monotonic()
        with transaction(engine) as connection:
            target_id = leases.put_target(connection, offer, rank=offered["rank"], active=True)
            versions = connection.execute(NEWEST_VERSION).scalar_one()
        first = 0.0
        while left := _left(engine, versions):
            seconds = time.monotonic() - began
            if not first and _is_claimable(engine, target_id):
                first = seconds
            if seconds > limit:
                break
            if first:
                waits.append(_wait_for_news(engine, listener, len(waits)))
            time.sleep(GLANCE)
        ended = time.monotonic()
        after = (cpu_seconds(keeper.pid), cpu_seconds(server.pid, with_children=True))
    engine.dispose()
    used = [late - early for late, early in zip(after, before, strict=True)]
    activated = Activated(first, versions - left, versions, ended - began, *used)
    beside = [each.seconds for each in claimed if began <= each.began <= ended]
    return activated, {
        "single claims beside activation": Taken(beside),
        "news to claim beside activation": Taken(waits),
    }


def _wait_until_claims(engine: Engine) -> None:
    """Return once the claiming process holds leases."""
    while not _ask(engine, text("SELECT EXISTS (SELECT FROM leases)")):
        time.sleep(GLANCE)


def _left(engine: Engine, versions: int) -> int:
    """Versions that the keeper has still to judge."""
    return min(versions, int(_ask(engine, LEFT)))


def _is_claimable(engine: Engine, target_id: int) -> bool:
    return bool(_ask(engine, IS_CLAIMABLE, target_id=target_id))


def _ask(engine: Engine, query: Any, **parameters: object) -> Any:
    with engine.connect() as connection:
        return connection.execute(query, parameters).scalar_one()


def _plan(engine: Engine) -> str:
    """How PostgreSQL performs a claim; it is not kept."""
    (speaker,) = claims.enter_slaves(engine, "explain", 1)
    with engine.connect() as connection:
        target_id = connection.execute(claims.TARGETS).scalars().first()
        asker = (speaker.slave, speaker.run)
        alone = leases.Alike(target_id, 4, (asker,), min(Lane), max(Lane))
        parameters = leases.in_columns([alone], claims.LEASE_SECONDS)
        claim = statement("leases", "claim")
        explained = text(f"EXPLAIN (ANALYZE, BUFFERS) {claim.text}")
        lines = connection.execute(explained, parameters).scalars().all()
        connection.rollback()
    return "\n".join(lines)


# Reporting


def _result(found: Sequence[Measured], postgres: str) -> Result:
    tables = [_size_table(found), *map(_latency_table, found)]
    if len(found) == 2:
        tables.append(_ratio_table(*found))
    if all(each.activated for each in found):
        tables.append(_activation_table(found))
    return Result(
        samples=[
            {"versions": each.shape.versions, "kind": name, "seconds": list(taken.seconds)}
            for each in found
            for name, taken in each.samples.items()
        ],
        figures={"sizes": [_figures(each) for each in found], "aims": AIMS},
        tables=tables + [_plan_table(each) for each in found if each.plan],
        facts={"postgresql": postgres},
    )


def _figures(measured: Measured) -> dict[str, Any]:
    return {
        "shape": asdict(measured.shape),
        "made": asdict(measured.made),
        "bytes": measured.bytes,
        "tables": dict(measured.tables),
        "waiting": measured.waiting,
        "latencies": {name: asdict(each) for name, each in measured.latencies.items()},
        "cpu": {name: each.cpu for name, each in measured.samples.items()},
        "activated": measured.activated and asdict(measured.activated),
        "plan": measured.plan,
    }


def _title(measured: Measured) -> str:
    return f"{measured.shape.versions:,} versions"


def _size_table(found: Sequence[Measured]) -> Table:
    names = dict.fromkeys(name for each in found for name in each.tables)
    rows = [
        ("packages", *(f"{each.shape.packages:,}" for each in found)),
        ("rows of the queue", *(f"{each.waiting:,}" for each in found)),
        ("database, MiB", *(f"{each.bytes / 2**20:,.0f}" for each in found)),
        *(
            (f"  {name}", *(f"{each.tables.get(name, 0) / 2**20:,.0f}" for each in found))
            for name in names
        ),
        ("made in seconds", *(f"{sum(each.made.steps.values()):.0f}" for each in found)),
        ("left to the rule", *(f"{each.made.judged:,}" for each in found)),
        ("judged in seconds", *(f"{each.made.judging:.0f}" for each in found)),
    ]
    return Table("What was made", ("", *map(_title, found)), tuple(rows))


def _latency_table(measured: Measured) -> Table:
    rows = tuple(
        (name, *each.cells(), *measured.samples[name].cells(), AIMS.get(name, ""))
        for name, each in measured.latencies.items()
    )
    columns = ("", *CELLS, "our CPU", "PostgreSQL's", "aim")
    return Table(f"{_title(measured)}: milliseconds, each to its commit", columns, rows)


def _ratio_table(full: Measured, tenth: Measured) -> Table:
    theirs = tenth.latencies
    rows = tuple(
        (name, f"{own.median / theirs[name].median:.2f}", f"{own.p99 / theirs[name].p99:.2f}")
        for name, own in full.latencies.items()
        if name in theirs
    )
    title = f"{_title(full)} / {_title(tenth)}"
    return Table(title, ("", "median", "p99"), rows, ("1 is a cost that does not follow the size",))


def _activation_table(found: Sequence[Measured]) -> Table:
    activated = [each.activated for each in found if each.activated]
    rows = [
        ("until a row can be claimed, s", *(f"{each.first:.2f}" for each in activated)),
        ("versions judged", *(f"{each.judged:,} of {each.versions:,}" for each in activated)),
        ("in seconds", *(f"{each.seconds:.1f}" for each in activated)),
        ("versions per second", *(f"{each.judged / each.seconds:,.0f}" for each in activated)),
        (
            "all would take minutes",
            *(f"{each.versions * each.seconds / each.judged / 60:.1f}" for each in activated),
        ),
        (
            "the keeper's CPU, µs per version",
            *(f"{each.keeper_cpu / each.judged * 1e6:.0f}" for each in activated),
        ),
        (
            "PostgreSQL's CPU, µs per version, claims included",
            *(f"{each.postgres_cpu / each.judged * 1e6:.0f}" for each in activated),
        ),
    ]
    return Table("One more target", ("", *map(_title, found)), tuple(rows))


def _plan_table(measured: Measured) -> Table:
    times = re.findall(r"^(Planning|Execution) Time: (\S+) ms$", measured.plan, re.MULTILINE)
    lines = tuple(measured.plan.splitlines())
    return Table(f"{_title(measured)}: a claim explained", ("", "ms"), tuple(times), lines)
