"""The tracker: a first run over a PyPI on this machine, then news.

A made PyPI (tests.generated) is served by this process over real HTTP; the tracker runs as
`piw-master --service tracker --follow all` on a durable PostgreSQL with the farm's settings. All
three share the machine: the aim is meant with the index's own work on the same two cores.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.benchmarks import memory
from scripts.benchmarks.result import BenchmarkFailed, Result, Table
from scripts.benchmarks.server import Database, running_server
from scripts.benchmarks.services import cpu_seconds, running_service
from tests.generated import Generated
from tests.scripted_pypi import ScriptedPyPI, scripted_pypi

NAME = "tracker"

AIMS = {"projects": "≥ 300 a second", "versions": "≥ 3000 a second"}
GLANCE = 0.5  # seconds
READ = "SELECT count(*) FROM packages WHERE last_read IS NOT NULL"
LEFT = "SELECT count(*) FROM project_jobs"
VERSIONS = "SELECT count(*) FROM versions"
APPLIED = """SELECT LEAST(serial, (SELECT min(serial) - 1 FROM project_jobs
    WHERE serial IS NOT NULL)) FROM tracking"""


@dataclass(frozen=True, slots=True)
class Phase:
    """What a phase took. memory: the most that the tracker occupied, in bytes (PSS).

    requests: that PyPI got. cpu: seconds of the tracker, PostgreSQL and the PyPI.
    """

    name: str
    projects: int
    versions: int
    seconds: float
    requests: int
    memory: int
    tracker_cpu: float
    postgres_cpu: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument(
        "--projects", type=int, default=10_000, metavar="N", help="of the made PyPI (%(default)s)"
    )
    parser.add_argument(
        "--news", type=int, default=1_000, metavar="N", help="releases after that (%(default)s)"
    )
    parser.add_argument(
        "--readers", type=int, default=4, metavar="N", help="pages asked for at once (%(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="for the database (a temporary one)")


def run(options: argparse.Namespace) -> Result:
    """Measure. Raise BenchmarkFailed."""
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        server = stack.enter_context(running_server(folder / "postgresql"))
        database = server.create("tracked")
        catalogue = Generated(options.projects)
        pypi = stack.enter_context(scripted_pypi(catalogue))
        words = ["--pypi-simple", pypi.simple_url, "--follow", "all", "--journal-pause", "1s"]
        words += ["--pypi-readers", str(options.readers)]
        service = stack.enter_context(running_service("tracker", database.daemon, folder, words))
        watch = _Watch(pypi, database, service.pid, server.pid)
        first = watch.phase("first run", lambda: _is_read(database, options.projects))
        for _ in range(options.news):
            catalogue.release()
        last = catalogue.last_serial()
        news = watch.phase("news", lambda: _is_applied(database, last))
        changed = len(set(catalogue.released))
        facts = {"PostgreSQL": server.version()}
    phases = [first, news]
    return Result(
        samples=[asdict(phase) for phase in phases],
        figures={
            "projects per second": first.projects / first.seconds,
            "versions per second": first.versions / first.seconds,
            "requests per changed project": news.requests / changed,
            "memory bytes": max(phase.memory for phase in phases),
        },
        tables=[_table(phases, changed)],
        facts=facts,
    )


class _Watch:
    """Looks at all that takes part while a phase lasts."""

    def __init__(self, pypi: ScriptedPyPI, database: Database, tracker: int, postgres: int) -> None:
        self.pypi = pypi
        self.database = database
        self.tracker = tracker
        self.postgres = postgres

    def phase(self, name: str, is_over: Callable[[], bool]) -> Phase:
        """Wait until *is_over*, and say what that took."""
        began, asked = time.monotonic(), len(self.pypi.asked)
        versions = _count(self.database, VERSIONS)
        used = cpu_seconds(self.tracker), cpu_seconds(self.postgres, with_children=True)
        peak = 0
        while True:
            peak = max(peak, memory.pss(self.tracker))
            if is_over():
                break
            time.sleep(GLANCE)
        pages = self.pypi.asked[asked:]
        return Phase(
            name=name,
            projects=len({path for path in pages if path.count("/") == 3}),
            versions=_count(self.database, VERSIONS) - versions,
            seconds=time.monotonic() - began,
            requests=len(pages),
            memory=peak,
            tracker_cpu=cpu_seconds(self.tracker) - used[0],
            postgres_cpu=cpu_seconds(self.postgres, with_children=True) - used[1],
        )


def _count(database: Database, statement: str) -> int:
    value = database.value(statement)
    if not isinstance(value, int):
        raise BenchmarkFailed(f"{statement} says {value}")
    return value


def _is_read(database: Database, projects: int) -> bool:
    return _count(database, READ) == projects and _count(database, LEFT) == 0


def _is_applied(database: Database, serial: int) -> bool:
    return _count(database, APPLIED) >= serial


def _table(phases: list[Phase], changed: int) -> Table:
    return Table(
        "The tracker",
        (
            "phase", "projects", "projects/s", "versions/s", "seconds", "requests",
            "memory MiB", "tracker cpu s", "PostgreSQL cpu s",
        ),
        tuple(
            (
                phase.name,
                str(phase.projects),
                f"{phase.projects / phase.seconds:.0f}",
                f"{phase.versions / phase.seconds:.0f}",
                f"{phase.seconds:.1f}",
                str(phase.requests),
                f"{phase.memory / 2**20:.0f}",
                f"{phase.tracker_cpu:.1f}",
                f"{phase.postgres_cpu:.1f}",
            )
            for phase in phases
        ),
        (
            f"Aims in the first run: projects {AIMS['projects']}, versions {AIMS['versions']}.",
            f"News of {changed} projects: {phases[1].requests / changed:.2f} requests for each.",
        ),
    )  # fmt: skip
