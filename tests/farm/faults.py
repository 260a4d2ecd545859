"""A real farm for tests to hurt: builds stop at gates, slaves speak over lines that can fail.

A scene has a build in every phase at the same moment, and one slave idle. So one fault hits all
phases at once; then the gates open and everything must come right by itself.
"""

import configparser
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from sqlalchemy import make_url

from piwheels.cli.asking import ask_at
from piwheels.farm.postgres import EmbeddedPostgres
from piwheels.model.builds import Phase
from piwheels.model.errors import Unavailable
from piwheels.protocol.admin import Add
from piwheels.protocol.control import Forgive
from tests.farm.lines import Line, Network
from tests.postgres_fixture import cursor
from tests.pypi_server import SmallPyPI, small_pypi
from tests.running_farm import BIN, RunningFarm, running_farm
from tests.sdists import PACKAGES, make_sdist

PACKAGE = "tiny-gated"
HIRED = 5  # slaves beside the farm's own: one for each phase, and one is idle
HEARTBEAT = 1.0  # seconds
LEASE = 60.0  # seconds; longer than anything here takes to come back: see let_run_out
PATIENCE = 240.0  # seconds; a dead connection is noticed after 60, a restart may wait 30
GLANCE = 0.01  # seconds between two looks at the database
HALF_WAY = 1_000_000  # bytes; of a large wheel about a third
TRIES = 5  # for a build to be still at its inspection when the blow falls
GATED = (Phase.FETCHING, Phase.PREPARING, Phase.BUILDING)
SERVICES = ("dispatcher", "receiver", "keeper", "admin", "status", "publisher", "tracker")
PROGRAMS = ("master", "web", "postgresql")
MOMENTS = {  # commits, by what they enter
    "grant": "INSERT ON leases",
    "report": "UPDATE OF report ON leases",
    "placement": "UPDATE OF placed ON uploads",
    "end": "INSERT ON builds",
}


@dataclass(frozen=True, slots=True)
class Gates:
    """Builds wait before they leave a phase of GATED, until its gate is open.

    A gate is a file that strangers' code may look for. So are wishes for special wheels.
    """

    folder: Path

    def open(self, version: str, *phases: Phase) -> None:
        """Let builds of *version* leave these phases."""
        for phase in phases:
            self._gate(version, phase).touch()

    def is_open(self, version: str, phase: Phase) -> bool:
        return self._gate(version, phase).exists()

    def wish(self, version: str, wheel: str) -> None:
        """The wheel shall have "many" files, or be "large"."""
        self._gate(version, wheel).touch()

    def await_fetch(self, filename: str) -> None:
        """What the index does before it serves an sdist."""
        version = re.fullmatch(r"tiny_gated-(.*)\.tar\.gz", filename)[1]
        while not self.is_open(version, Phase.FETCHING) and self.folder.exists():
            time.sleep(0.02)

    def _gate(self, version: str, name: str) -> Path:
        return self.folder / f"{version}.{name}"


@dataclass(slots=True)
class Hired:
    """A slave that the test keeps running, as systemd would, behind lines of its own."""

    label: str
    directory: Path
    words: Sequence[str | Path]
    environment: Mapping[str, str]
    lines: tuple[Line, Line]  # of messages, of files
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def ensure(self) -> int:
        """Start it unless it runs; return its pid."""
        if self.process is None or self.process.poll() is not None:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.words, env=self.environment, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
        return self.process.pid

    def await_end(self) -> int:
        """Return its exit status. Not before its last thread is gone."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def end(self) -> int:
        """Ask it to leave; return its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.await_end()


@dataclass(frozen=True, slots=True)
class Lease:
    """Who does a build, and how far it is."""

    version: str
    slave: str
    phase: str
    build_id: int
    token: bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """A build in every phase at once. other: the label of the slave that is at none of them.

    fillers: further versions, which that one is at.
    """

    leases: Mapping[Phase, Lease]
    fillers: Set[str]
    other: str

    @property
    def versions(self) -> list[str]:
        return [*(lease.version for lease in self.leases.values()), *self.fillers]

    @property
    def slaves(self) -> list[str]:
        """All that are at a phase."""
        return [lease.slave for lease in self.leases.values()]

    @property
    def builds(self) -> dict[str, int]:
        """Numbers of builds, by version."""
        return {lease.version: lease.build_id for lease in self.leases.values()}


@dataclass
class HurtFarm:
    """The farm, its index, and the slaves that were hired for it.

    mark: in the environment of all its processes. numbers: of versions. fallen: those killed
    that the farm is to start again, with their pids. killed: how often each was.
    """

    farm: RunningFarm
    index: SmallPyPI
    source: Path
    gates: Gates
    mark: str
    network: Network
    slaves: dict[str, Hired] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    fallen: dict[str, int] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    connection: Any = None
    settings: configparser.ConfigParser = field(init=False)

    def __post_init__(self) -> None:
        self.settings = configparser.ConfigParser(interpolation=None)
        self.settings.read(self.farm.configuration)

    @property
    def owner(self) -> str:
        """The address of the database, for who may do anything there."""
        return EmbeddedPostgres(self.farm.data / "postgresql").dsn("piwheels")

    # Looking

    def look(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database says; if it is away, once it is back."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self.connection is None:
                    self.connection = psycopg2.connect(self._dsn(), connect_timeout=5)
                    self.connection.autocommit = True
                with self.connection.cursor() as cursor:
                    cursor.execute(statement, values)
                    return cursor.fetchall()
            except (psycopg2.DatabaseError, psycopg2.InterfaceError):
                self.connection = None
                assert time.monotonic() < deadline, self.farm.logs()
                time.sleep(GLANCE)

    def _dsn(self) -> str:
        url = make_url(self.settings["master"]["dsn"]).set(drivername="postgresql")
        return url.render_as_string(hide_password=False)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """What *condition* returns as soon as that is true of anything."""
        deadline = time.monotonic() + PATIENCE
        while not (answer := condition()):
            assert time.monotonic() < deadline, f"never: {what}\n{self.tell()}"
            time.sleep(GLANCE)
        return answer

    def leases(self) -> dict[str, Lease]:
        """By version."""
        rows = self.look(
            "SELECT version, label, phase, build_id, token FROM leases"
            " JOIN versions USING (version_id) JOIN slaves USING (slave_id)"
        )
        return {row[0]: Lease(*row[:4], bytes(row[4])) for row in rows}

    def builds_at(self) -> set[int]:
        """Numbers of the builds that slaves are at."""
        return {lease.build_id for lease in self.leases().values()}

    def built(self, versions: Collection[str]) -> list[tuple[str, int]]:
        """The successful builds of these: version, number."""
        rows = self.look(
            "SELECT version, build_id FROM builds JOIN versions USING (version_id)"
            " WHERE outcome = 'success' AND version = ANY(%s)",
            list(versions),
        )
        return [(version, build_id) for version, build_id in rows]

    def lost(self, versions: Collection[str]) -> int:
        """How many of these builds are on record as lost with their slaves."""
        ((number,),) = self.look(
            "SELECT count(*) FROM builds JOIN versions USING (version_id)"
            " WHERE kind = 'slave lost' AND version = ANY(%s)",
            list(versions),
        )
        return int(number)

    def tell(self) -> str:
        """All that helps to understand a failure."""
        tables = {
            "leases": "SELECT * FROM leases",
            "queue": "SELECT * FROM queue",
            "slaves": "SELECT * FROM slaves",
            "unsuccessful builds": "SELECT version, builds.* FROM builds"
            " JOIN versions USING (version_id) WHERE outcome <> 'success' ORDER BY build_id",
            "uploads": "SELECT * FROM uploads",
            "page_jobs": "SELECT * FROM page_jobs",
            "site_jobs": "SELECT * FROM site_jobs",
        }
        told = [f"== {name}\n{self.look(words)}" for name, words in tables.items()]
        return "\n".join([*told, self.farm.text(), self.farm.logs()])

    # Working

    def ask(self, request: object, queue: str = "import") -> Any:
        """The master's answer; if it is away, once it is back."""
        address = self.settings["DEFAULT"][f"{queue}-queue"]
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return ask_at(address, request, 5.0, queue)
            except Unavailable:
                assert time.monotonic() < deadline, self.farm.logs()
                time.sleep(GLANCE)

    def release(self) -> str:
        """Release a version and ask for its wheel."""
        version = f"1.{next(self.numbers)}"
        make_sdist(self.source, self.index.folder, version)
        self.versions.append(version)
        self.ask(Add(PACKAGE, f"=={version}"))
        return version

    def begin(self, number: int) -> dict[str, Lease]:
        """Release so many versions and return the leases once slaves are at them all."""
        versions = [self.release() for _ in range(number)]

        def granted() -> dict[str, Lease]:
            found = {v: lease for v, lease in self.leases().items() if v in versions}
            are_all = len(found) == number and {f.phase for f in found.values()} == {"fetching"}
            return found if are_all else {}

        return self.until(granted, f"{number} builds began")

    def scene(self, is_one_idle: bool = True) -> Scene:
        """Bring a build into every phase; the newest of them is being inspected just now, or
        was a moment ago: see is_reported.

        is_one_idle: else the slave that is left is fetching one version more.
        """
        begun = self.begin(len(Phase) if is_one_idle else len(Phase) + 1)
        roles = self._roles(begun)
        inspecting, delivering = roles[Phase.INSPECTING].version, roles[Phase.DELIVERING].version
        self.gates.wish(inspecting, "many")
        self.gates.wish(delivering, "large")
        self.slaves[roles[Phase.DELIVERING].slave].lines[1].stall(after=HALF_WAY)
        self.gates.open(roles[Phase.PREPARING].version, Phase.FETCHING)
        self.gates.open(roles[Phase.BUILDING].version, *GATED[:2])
        self.gates.open(delivering, *GATED)
        self.gates.open(inspecting, *GATED[:2])
        for phase in (*GATED[1:], Phase.DELIVERING):
            self.await_phase(roles[phase].version, phase)
        self.await_phase(inspecting, Phase.BUILDING)
        other = ({label for (label,) in self.look("SELECT label FROM slaves")}) - {
            lease.slave for lease in roles.values()
        }
        self.gates.open(inspecting, Phase.BUILDING)
        self.await_phase(inspecting, Phase.INSPECTING, Phase.DELIVERING)
        return Scene(roles, set(begun) - {lease.version for lease in roles.values()}, *other)

    def _roles(self, begun: Mapping[str, Lease]) -> dict[Phase, Lease]:
        """Who is to be in which phase: delivering over a line, which can stall."""
        roles = [begun[version] for version in self.versions if version in begun][: len(Phase)]
        if roles[-1].slave not in self.slaves:
            roles[-2:] = reversed(roles[-2:])
        return dict(zip(Phase, roles, strict=True))

    def await_phase(self, version: str, *phases: Phase) -> None:
        """Until the build of *version* is in one of these."""

        def is_there() -> bool:
            lease = self.leases().get(version)
            return lease is not None and lease.phase in phases

        self.until(is_there, f"{version} is {' or '.join(phases)}")

    def is_reported(self, lease: Lease) -> bool:
        """Whether the slave has the whole result of the build on its disk."""
        folder = self.folder_of(lease.slave) / "spool" / lease.token.hex()
        return (folder / "result.cbor").exists()

    def folder_of(self, label: str) -> Path:
        """A slave's own directory."""
        hired = self.slaves.get(label)
        return hired.directory if hired else self.farm.data / "slaves" / label

    def settle(self, versions: Collection[str]) -> dict[str, int]:
        """Open every gate, mend every line, and wait until all of *versions* are built, once.

        Return the numbers of the builds, by version.
        """
        for version in versions:
            self.gates.open(version, *GATED)
        for line in self.lines():
            line.mend()
        for hired in self.slaves.values():
            hired.ensure()
        self.await_successors()
        self.until(
            lambda: not self.leases() and {row[0] for row in self.built(versions)} >= set(versions),
            f"{', '.join(versions)} were built and nothing else runs",
        )
        built = self.built(versions)
        assert len(built) == len(versions), f"something was built twice: {built}"
        assert self.deaths() == self.killed, f"others died than those killed\n{self.tell()}"
        return dict(built)

    def strike(self, blow: Callable[[Scene], object]) -> tuple[Scene, dict[str, int]]:
        """Let *blow* fall on a scene until it hits all phases; return it, and what was built."""
        for _ in range(TRIES):
            scene = self.scene()
            blow(scene)
            is_hit = not self.is_reported(scene.leases[Phase.INSPECTING])
            built = self.settle(scene.versions)
            if is_hit:
                return scene, built
        raise AssertionError("inspections are too short to be hit")

    def finish_on_the_slaves(self, scene: Scene) -> None:
        """Open the gates, and wait until all results are on the disks of the hired slaves."""
        for lease in scene.leases.values():
            self.gates.open(lease.version, *GATED)
        hired = [lease for lease in scene.leases.values() if lease.slave in self.slaves]
        self.until(lambda: all(map(self.is_reported, hired)), "all results are on disk")

    def fetches(self, version: str) -> int:
        """How many builds of it were begun."""
        return self.index.asked.count(f"/files/tiny_gated-{version}.tar.gz")

    def deaths(self) -> Counter[str]:
        """How often each process of the farm died, as its supervisors tell."""
        logs = (self.farm.data / "logs" / name for name in ("farm.log", "master.log"))
        found = (re.findall(r"Died\(name='([^']+)'", log.read_text()) for log in logs)
        return Counter(chain.from_iterable(found))

    def forgive(self) -> None:
        """End all quarantines: here slaves are lost more often than anywhere."""
        self.ask(Forgive(everyone=True), "control")

    # Hurting

    def pid(self, victim: str) -> int:
        """Of a service, a program of the farm, a slave, or of one of PostgreSQL's backends."""
        if victim in self.slaves:
            return self.slaves[victim].ensure()
        if victim == "backend":
            backends = self.look(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() ORDER BY pid"
            )
            return int(random.choice(backends)[0])
        return self.farm.pid(_name(victim))

    def kill(self, *victims: str) -> None:
        """kill -9 all of them at once; return when they are dead."""
        self.await_successors()
        pids = {victim: self.pid(victim) for victim in victims}
        strangers = [psutil.Process(pid) for v, pid in pids.items() if v not in self.slaves]
        heirs = [*victims, *(SERVICES if "master" in victims else ())]
        for heir in {*heirs} - self.slaves.keys() - {"backend"}:
            self.fallen[heir] = self.pid(heir)
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for hired in pids.keys() & self.slaves.keys():
            self.slaves[hired].await_end()
        for process in strangers:
            process.wait(PATIENCE)
        self.killed.update(map(_name, pids.keys() - self.slaves.keys() - {"backend"}))

    def await_successors(self) -> None:
        """Until what was killed runs again, as far as the farm sees to that."""
        for victim, pid in self.fallen.items():
            self.until(lambda v=victim, p=pid: self.pid(v) != p, f"{victim} was started again")
        self.fallen.clear()

    def signal(self, victim: str, number: signal.Signals) -> None:
        """Stop it, or let it go on."""
        os.kill(self.pid(victim), number)

    def let_run_out(self, builds: Collection[int]) -> None:
        """As if so much time had passed that the leases of these builds ended; wait for it."""
        with cursor(self.owner) as statements:
            statements.execute(
                "UPDATE leases SET expires = now() - interval '1 second' WHERE build_id = ANY(%s)",
                [list(builds)],
            )
        self.until(lambda: self.builds_at().isdisjoint(builds), f"{builds} are given up")

    def stop_beyond_lease(self, lease: Lease) -> None:
        """Stop the slave until its lease is lost, then let it go on."""
        self.signal(lease.slave, signal.SIGSTOP)
        self.look("SELECT 1")  # the database is there
        self.let_run_out([lease.build_id])
        self.signal(lease.slave, signal.SIGCONT)

    @contextmanager
    def held_at(self, moment: str) -> Iterator[None]:
        """Whoever commits at this one of MOMENTS is held at it while the block lasts."""
        with closing(psycopg2.connect(self._dsn(), connect_timeout=5)) as connection:
            connection.cursor().execute("SELECT pg_advisory_lock(hashtext(%s))", [moment])
            yield

    def await_held(self) -> int:
        """Until somebody is held at a moment; return the pid of its backend."""
        held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return int(self.until(lambda: self.look(held), "somebody is held")[0][0])

    def roll_back(self, backend: int) -> None:
        """What this backend was to commit is not."""
        self.look("SELECT pg_terminate_backend(%s, 60000)", backend)

    def make_moments(self) -> None:
        """Let those of MOMENTS be held; a trigger that is deferred fires in the commit."""
        with cursor(self.owner) as statements:
            statements.execute(
                "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " PERFORM pg_advisory_xact_lock_shared(hashtext(TG_ARGV[0])); RETURN NULL; END $$"
            )
            for moment, event in MOMENTS.items():
                statements.execute(
                    f"CREATE CONSTRAINT TRIGGER hold_{moment} AFTER {event}"
                    " DEFERRABLE INITIALLY DEFERRED"
                    f" FOR EACH ROW EXECUTE FUNCTION hold('{moment}')"
                )

    def lines(self, *which: int) -> list[Line]:
        """Lines of all hired slaves: 0 for messages, 1 for files; both if none is named."""
        hired = self.slaves.values()
        return [each.lines[number] for each in hired for number in which or (0, 1)]

    # The end

    def processes(self) -> list[psutil.Process]:
        """All that belongs to this farm, by what they inherited or are about."""
        own = os.getpid()
        return [each for each in psutil.process_iter() if each.pid != own and self._is_ours(each)]

    def builds(self) -> list[psutil.Process]:
        """Processes that are about a build's room."""
        return [
            each for each in self.processes() if any("/builds/build-" in w for w in _words(each))
        ]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            about = [process.cwd(), *process.cmdline()]
            is_marked = process.environ().get("FAULTS_MARK") == self.mark
            return is_marked or any(str(self.farm.data) in word for word in about)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def _name(victim: str) -> str:
    """As the farm's supervisors call it."""
    return victim if victim in SERVICES + PROGRAMS else f"slave {victim}"


def _words(process: psutil.Process) -> list[str]:
    """The command line; none once it is dead."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def hurt_farm(folder: Path) -> Iterator[HurtFarm]:
    """A farm with its own slave and HIRED others, all there and idle."""
    with ExitStack() as stack:
        # Builds run as other users, who may not enter pytest's folders.
        gates = Gates(Path(tempfile.mkdtemp(prefix="piw-gates-")))
        gates.folder.chmod(0o755)
        stack.callback(shutil.rmtree, gates.folder, ignore_errors=True)
        source = folder / "source"
        shutil.copytree(PACKAGES / PACKAGE, source)
        (source / "gates.txt").write_text(str(gates.folder))
        (folder / "pypi").mkdir()
        index = stack.enter_context(small_pypi(folder / "pypi"))
        index.before_file = gates.await_fetch
        stack.callback(shutil.rmtree, gates.folder, ignore_errors=True)  # lets fetches go
        make_sdist(source, index.folder, "1.0")
        mark = secrets.token_hex(8)
        environment = {
            "FAULTS_MARK": mark,
            "PIW_READABLE": str(gates.folder),
            "PIW_HEARTBEAT": f"{HEARTBEAT}s",
            "PIW_LEASE": f"{LEASE}s",
        }
        farm = stack.enter_context(
            running_farm(folder / "farm", index.simple_url, environment=environment)
        )
        network = stack.enter_context(Network())
        hurt = HurtFarm(farm, index, source, gates, mark, network)
        hurt.make_moments()
        for number in range(1, HIRED + 1):
            hired = _hire(hurt, f"hired-{number}", environment)
            hurt.slaves[hired.label] = hired
            stack.callback(_dismiss, hired)
            hired.ensure()
        hurt.until(
            lambda: hurt.look("SELECT count(*) FROM slaves")[0][0] == HIRED + 1, "all slaves came"
        )
        yield hurt
        if hurt.connection is not None:
            hurt.connection.close()


def _hire(hurt: HurtFarm, label: str, environment: Mapping[str, str]) -> Hired:
    lines = tuple(
        hurt.network.line_to(
            Path(hurt.settings["DEFAULT"][f"{queue}-queue"].removeprefix("ipc://"))
        )
        for queue in ("slave", "file")
    )
    directory = hurt.farm.data.parent / label
    words = [
        *("setpriv", "--pdeathsig=KILL", "--"),  # should this test be killed
        *(BIN / "piw-slave", "--label", label, "--dir", directory, "--python", sys.executable),
        *("--slave-queue", lines[0].address, "--file-queue", lines[1].address),
    ]
    log = hurt.farm.data / "logs" / f"{label}.log"
    return Hired(label, directory, words, os.environ | environment, lines, log)


def _dismiss(hired: Hired) -> None:
    if hired.process is not None and hired.process.poll() is None:
        hired.process.kill()
        hired.process.wait()
