"""The dispatcher under load: cycles per second, latency of each message, heartbeats beside work.

Simulated slaves speak over real sockets with a real dispatcher in a process of its own, on a
durable PostgreSQL with the farm's settings. A cycle is IDLE → BUILD → BUSY → CONTINUE → BUILT
→ DONE; with files SEND → SENT come before DONE. Cycles are counted in the table of builds, not
by the slaves' word. In place of the receiver a process says that the files are there.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from piwheels.database import leases
from piwheels.database.connection import transaction
from piwheels.database.statements import statement
from piwheels.model.targets import TargetOffer
from piwheels.protocol.slave import OfferedTarget
from scripts.benchmarks import memory, pypi_sized, uploads
from scripts.benchmarks.fleet import Fleet, Heard, Kind, Part
from scripts.benchmarks.latency import CELLS, Latency
from scripts.benchmarks.placer import running_placer
from scripts.benchmarks.pypi_sized import Shape
from scripts.benchmarks.result import Result, Table
from scripts.benchmarks.server import Database, Server, running_server
from scripts.benchmarks.services import cpu_seconds, free_port, running_service

NAME = "dispatch"

AIMS = {
    "cycles": "with 64 slaves at least 1,400 cycles per second on two cores",
    "latency": "with 1,000 slaves connected p99 below 100 ms",
}
VERSIONS_OF_PACKAGE = 10
TARGETS = 5
MADE, MEASURED = "made", "measured"
WARM_UP = 2.0  # seconds
AT_WORK = 64  # slaves that cycle while the others are idle
HEARTBEAT = 15.0  # seconds, as real slaves are told by default
PAGES_SECONDS = 0.2  # between two looks at how many pages are left to write

IDLE_RANK = TARGETS  # of a target that is not active: its slaves wait for work

BUILDS = text("SELECT count(*) FROM builds")
NOTHING_CHANGED = text("DELETE FROM rejudge")


@dataclass(frozen=True, slots=True)
class Scene:
    """What the slaves do. cycling: so many cycle; half of the others send heartbeats,
    half are parked.
    """

    slaves: int
    cycling: int
    kind: Kind

    def __str__(self) -> str:
        cycling = f"{self.cycling} of " if self.cycling < self.slaves else ""
        return f"{cycling}{self.slaves}, {self.kind.value}"


@dataclass(frozen=True, slots=True)
class Beats:
    """Heartbeats only: *rate* a second of *slaves* in all, *beside* other work of the master."""

    slaves: int
    rate: float
    beside: str

    def __str__(self) -> str:
        return self.beside


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a scene. seconds: it was measured; cpu: seconds used, by process.

    builds: committed. replies: seconds from a request to its reply; memory: the dispatcher's PSS.
    """

    scene: Scene | Beats
    seconds: float
    builds: int
    cpu: Mapping[str, float]
    memory: int
    replies: Mapping[str, Sequence[float]]
    odd: Mapping[str, int]
    note: str = ""

    @property
    def latencies(self) -> dict[str, Latency]:
        """By the request's type, in the order of a cycle."""
        return {name: Latency.of(self.replies[name]) for name in ORDER if self.replies.get(name)}


@dataclass(slots=True)
class Other:
    """What the master does beside: its processes, and at the end how much it did."""

    pids: dict[str, int] = field(default_factory=dict)
    note: str = ""


BESIDE = ("alone", "beside uploads", "beside the publisher")
ORDER = ("IDLE", "BUSY", "BUILT", "SENT", "cycle")
ANSWERS = {"IDLE": "BUILD", "BUSY": "CONTINUE", "BUILT": "SEND or DONE", "SENT": "DONE"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument(
        "--slaves", type=_counts, default=[1, 64, 1000], metavar="N,…", help="(1,64,1000)"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="to measure each scene (10)"
    )
    parser.add_argument(
        "--versions",
        type=int,
        default=40_000,
        metavar="N",
        help="that wait, most of them for each of five targets (40000)",
    )
    parser.add_argument(
        "--beats", type=float, default=500.0, metavar="N", help="heartbeats per second (500)"
    )


def run(options: argparse.Namespace) -> Result:
    """Measure. Raise BenchmarkFailed."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL runs as another user, below it
        with running_server(folder / "postgresql") as server:
            _make(server, options.versions)
            bench = _Bench(server, folder, options.seconds)
            found = [bench.measure(scene) for scene in _scenes(options.slaves)]
            beats = [
                bench.measure(Beats(max(options.slaves), options.beats, beside))
                for beside in BESIDE
            ]
            return _result(found, beats, server.version(), options)


def _counts(words: str) -> list[int]:
    found = [int(word) for word in words.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError("at least one slave is needed")
    return found


def _scenes(counts: Sequence[int]) -> Iterator[Scene]:
    for kind in Kind:
        for count in counts:
            if count > 2 * AT_WORK:
                yield Scene(count, AT_WORK, kind)
            yield Scene(count, count, kind)


def _make(server: Server, versions: int) -> None:
    # PyPI has wheels of all, but not for these targets: so all waits for every target at once.
    packages = max(1, versions // VERSIONS_OF_PACKAGE)
    wanted = {"sdists": 1, "on_pypi": 1, "pure": 0, "listed": 1}
    pypi_sized.make(server, MADE, Shape(packages, versions, TARGETS, built=0, **wanted))
    database = server.database(MADE)
    pypi_sized.judge(database)
    idle = pypi_sized.target(IDLE_RANK)
    offer = TargetOffer(idle["name"], idle["label"], idle["python"], tuple(idle["tags"]))
    engine = database.engine()
    with transaction(engine) as connection:
        leases.put_target(connection, offer, IDLE_RANK, active=False)
        connection.execute(NOTHING_CHANGED)
    engine.dispose()


# Measuring


@dataclass(frozen=True, slots=True)
class _Bench:
    """A server with data, and how long to measure."""

    server: Server
    folder: Path
    seconds: float

    def measure(self, scene: Scene | Beats) -> Measured:
        """Play *scene* on a fresh copy of the data."""
        database = self.server.create(MEASURED, template=MADE)
        self.server.checkpoint()
        try:
            return self._play(database, scene)
        finally:
            self.server.drop(MEASURED)

    def _play(self, database: Database, scene: Scene | Beats) -> Measured:
        port = free_port()
        address = f"tcp://127.0.0.1:{port}"
        with ExitStack() as stack:
            enter = stack.enter_context
            dispatcher = enter(
                running_service(
                    "dispatcher", database.daemon, self.folder, ["--slave-queue", address], port
                )
            )
            placer = enter(running_placer(database.daemon))
            fleet = enter(Fleet(address, _targets(scene), placer.deliver))
            fleet.watch(placer.descriptor, lambda: fleet.arrived(placer.placed()))
            fleet.greet()
            _assign(fleet, scene)
            pids = {"dispatcher": dispatcher.pid, "placer": placer.pid}
            with self._beside(database, scene) as other:
                fleet.run(WARM_UP)
                measured = self._watch(database, fleet, scene, pids | other.pids)
        return replace(measured, note=other.note)

    def _watch(
        self, database: Database, fleet: Fleet, scene: Scene | Beats, pids: Mapping[str, int]
    ) -> Measured:
        engine = database.engine()
        with engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            fleet.heard = Heard()
            cpu, began = self._cpu(pids), time.monotonic()
            builds = connection.execute(BUILDS).scalar_one()
            fleet.run(self.seconds)
            builds = connection.execute(BUILDS).scalar_one() - builds
            seconds = time.monotonic() - began
            used = {name: late - cpu[name] for name, late in self._cpu(pids).items()}
        engine.dispose()
        heard = fleet.heard
        replies = {**heard.replies, "cycle": heard.cycles}
        size = memory.pss(pids["dispatcher"])
        return Measured(scene, seconds, builds, used, size, replies, dict(heard.odd))

    def _cpu(self, pids: Mapping[str, int]) -> dict[str, float]:
        return {
            **{name: cpu_seconds(pid) for name, pid in pids.items()},
            "PostgreSQL": cpu_seconds(self.server.pid, with_children=True),
            "slaves": time.process_time(),
        }

    def _beside(self, database: Database, scene: Scene | Beats) -> AbstractContextManager[Other]:
        match scene:
            case Beats(beside="beside uploads"):
                return _uploads(database, self.folder)
            case Beats(beside="beside the publisher"):
                return _publisher(database, self.folder)
        return nullcontext(Other())


@contextmanager
def _uploads(database: Database, folder: Path) -> Iterator[Other]:
    """Files arrive as fast as the receiver takes them."""
    uploads.expect(database, folder)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    options = ["--file-queue", address]
    with running_service("receiver", database.daemon, folder, options, port) as receiver:
        other = Other({"receiver": receiver.pid})
        began = time.monotonic()
        with uploads.uploading(address, folder) as arrived:
            yield other
        speed = arrived["bytes"] / (time.monotonic() - began) / 1e6
        other.note = f"uploads: {speed:.0f} MB/s"


@contextmanager
def _publisher(database: Database, folder: Path) -> Iterator[Other]:
    """All pages are written as fast as the publisher can, and again once they are."""
    with (
        _endless_pages(database) as written,
        running_service("publisher", database.daemon, folder) as publisher,
    ):
        other = Other({"publisher": publisher.pid})
        began = time.monotonic()
        yield other
        other.note = f"publisher: {written() / (time.monotonic() - began):.0f} packages/s"


@contextmanager
def _endless_pages(database: Database) -> Iterator[Callable[[], int]]:
    """All pages are asked for, and again whenever half of them are written; how many were."""
    engine = database.engine()
    ended, finished = threading.Event(), 0

    def ask() -> int:
        with transaction(engine) as connection:
            connection.execute(statement("pages", "all_pages"), {"reason": "benchmark"})
        return _page_jobs(database)

    def keep_asking(wanted: int) -> None:
        nonlocal finished
        while not ended.wait(PAGES_SECONDS):
            left = _page_jobs(database)
            if left <= wanted // 2:
                finished += wanted - left
                wanted = ask()
        finished += wanted - _page_jobs(database)

    asking = threading.Thread(target=keep_asking, args=(ask(),))
    asking.start()

    def written() -> int:
        ended.set()
        asking.join()
        return finished

    try:
        yield written
    finally:
        written()
        engine.dispose()


def _page_jobs(database: Database) -> int:
    return int(str(database.value("SELECT count(*) FROM page_jobs")))


def _targets(scene: Scene | Beats) -> list[OfferedTarget]:
    """Of each slave: the active targets in turn, but for those that are to find nothing."""
    active = [_offered(rank) for rank in range(TARGETS)]
    targets = [active[number % len(active)] for number in range(scene.slaves)]
    if isinstance(scene, Scene):
        parked = scene.slaves - _parked_from(scene)
        targets[_parked_from(scene) :] = [_offered(IDLE_RANK)] * parked
    return targets


def _offered(rank: int) -> OfferedTarget:
    offer = pypi_sized.target(rank)
    return OfferedTarget(offer["name"], offer["label"], offer["python"], tuple(offer["tags"]))


def _parked_from(scene: Scene) -> int:
    """The first slave that is parked."""
    return scene.cycling + (scene.slaves - scene.cycling) // 2


def _assign(fleet: Fleet, scene: Scene | Beats) -> None:
    if isinstance(scene, Beats):
        fleet.assign(Part.BEAT, fleet.slaves, every=scene.slaves / scene.rate)
        return
    fleet.kind = scene.kind
    fleet.assign(Part.PARK, fleet.slaves[_parked_from(scene) :])
    fleet.assign(Part.BEAT, fleet.slaves[scene.cycling : _parked_from(scene)], every=HEARTBEAT)
    fleet.assign(Part.CYCLE, fleet.slaves[: scene.cycling])


# Reporting


def _result(
    scenes: Sequence[Measured],
    beats: Sequence[Measured],
    postgres: str,
    options: argparse.Namespace,
) -> Result:
    return Result(
        samples=[
            {"scene": str(each.scene), "kind": name, "seconds": list(seconds)}
            for each in (*scenes, *beats)
            for name, seconds in each.replies.items()
        ],
        figures={
            "scenes": [_figures(each) for each in (*scenes, *beats)],
            "aims": AIMS,
        },
        tables=[
            _cycle_table(scenes),
            _cpu_table("CPU, milliseconds per cycle", scenes, lambda each: each.builds / 1000),
            *map(_latency_table, scenes),
            _beat_table(beats, options),
            _cpu_table(
                "Beside heartbeats: CPU, percent of a core", beats, lambda each: each.seconds / 100
            ),
        ],
        facts={"postgresql": postgres},
    )


def _figures(measured: Measured) -> dict[str, Any]:
    return {
        "scene": str(measured.scene),
        "seconds": measured.seconds,
        "builds": measured.builds,
        "cpu": dict(measured.cpu),
        "memory": measured.memory,
        "latencies": {name: asdict(each) for name, each in measured.latencies.items()},
        "odd": dict(measured.odd),
        "note": measured.note,
    }


def _cycle_table(scenes: Sequence[Measured]) -> Table:
    rows = tuple(
        (
            str(each.scene),
            f"{each.builds / each.seconds:,.0f}",
            *each.latencies["cycle"].cells(),
            f"{each.memory / 2**20:.1f}",
        )
        for each in scenes
    )
    odd = {str(each.scene): each.odd for each in scenes if each.odd}
    notes = (
        "ms: of a slave's whole cycle; MiB: of the dispatcher (PSS)",
        f"the aim is {AIMS['cycles']}",
        *(f"{name}: {what}" for name, what in odd.items()),
    )
    columns = ("slaves", "cycles/s", *(f"{cell}, ms" for cell in CELLS), "MiB")
    return Table("Committed cycles", columns, rows, notes)


def _latency_table(measured: Measured) -> Table:
    rows = tuple(
        (f"{name} → {ANSWERS[name]}", *each.cells(), str(each.count))
        for name, each in measured.latencies.items()
        if name in ANSWERS
    )
    columns = ("", *(f"{cell}, ms" for cell in CELLS), "count")
    return Table(f"Slaves: {measured.scene}", columns, rows, (f"the aim is {AIMS['latency']}",))


def _beat_table(beats: Sequence[Measured], options: argparse.Namespace) -> Table:
    rows = tuple((str(each.scene), *each.latencies["BUSY"].cells()) for each in beats)
    notes = (f"the aim is {AIMS['latency']}", *(each.note for each in beats if each.note))
    title = f"{options.beats:.0f} heartbeats per second of {max(options.slaves)} slaves"
    return Table(title, ("", *(f"{cell}, ms" for cell in CELLS)), rows, notes)


def _cpu_table(title: str, found: Sequence[Measured], unit: Callable[[Measured], float]) -> Table:
    names = dict.fromkeys(name for each in found for name in each.cpu)
    rows = tuple(
        (str(each.scene), *(_cell(each.cpu.get(name), unit(each)) for name in names))
        for each in found
    )
    return Table(title, ("", *names), rows)


def _cell(used: float | None, unit: float) -> str:
    return "" if used is None or not unit else f"{used / unit:.2f}"
