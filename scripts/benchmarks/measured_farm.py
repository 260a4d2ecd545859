"""A real farm to be measured, seen from outside: its processes, its pages, its records."""

import configparser
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, text

from piwheels.database.connection import connect
from tests.running_farm import RunningFarm, start, wait_until_up

# Programs of a farm that are more than one process.
TREES = ("postgresql", "slave")

BUILD = text("""
    SELECT CAST(extract(epoch FROM started) AS float) AS started,
        CAST(extract(epoch FROM ended) AS float) AS ended,
        seconds, phases, sandbox
    FROM builds JOIN versions USING (version_id) JOIN packages USING (package_id)
    WHERE name = :package
""")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A build as the farm recorded it. Times: seconds since the epoch."""

    started: float
    ended: float
    seconds: float
    phases: dict[str, float]
    sandbox: str


@dataclass(frozen=True, slots=True)
class MeasuredFarm:
    """A farm that runs, and its database, to be read only."""

    running: RunningFarm
    database: Engine

    def page(self, package: str) -> Path:
        """Where the simple page of *package* lies once it has a file."""
        return self.running.data / "www" / "simple" / package / "index.html"

    def build(self, package: str) -> Recorded:
        """The one build of *package*."""
        with self.database.connect() as connection:
            return Recorded(**connection.execute(BUILD, {"package": package}).mappings().one())

    def postgres_version(self) -> str:
        """E.g. 16.4."""
        with self.database.connect() as connection:
            return str(connection.scalar(text("SHOW server_version")))

    def wait_for_rest(self) -> None:
        """Return once a slave is there and nothing is to be done."""
        self.running.status(
            until=lambda now: now.slaves and not (now.queued or now.running or now.pages)
        )

    def services(self) -> dict[str, int]:
        """The master's processes, by name; the supervisor is their parent."""
        programs = self._started("farm.log")
        return {"supervisor": programs["master"], **self._started("master.log")}

    def programs(self) -> dict[str, int]:
        """All other processes by name; all slaves but the first are left out."""
        programs = self._started("farm.log")
        programs.pop("master")
        slaves = [programs.pop(name) for name in list(programs) if name.startswith("slave")]
        return {"piw-farm": self.running.process.pid, **programs, "slave": slaves[0]}

    def _started(self, log: str) -> dict[str, int]:
        """The newest process of each name in a supervisor's log."""
        said = (self.running.data / "logs" / log).read_text(encoding="utf-8")
        found = re.findall(r"Started\(name='([^']+)', pid=(\d+)\)", said)
        return {name: int(pid) for name, pid in found}


@contextmanager
def measured_farm(data: Path, pypi: str, variables: dict[str, str]) -> Iterator[MeasuredFarm]:
    """A farm that is up; ended as a person would end it. variables: of its environment."""
    running = start(data, pypi, environment=variables)
    try:
        wait_until_up(running)
        database = connect(_dsn(running.configuration))
        yield MeasuredFarm(running, database.execution_options(postgresql_readonly=True))
        database.dispose()
    finally:
        if running.process.poll() is None:
            running.interrupt()


def _dsn(configuration: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(configuration, encoding="utf-8")
    return parser["master"]["dsn"]
