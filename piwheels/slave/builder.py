"""From an order to a result: fetch, unpack, prepare, build, inspect."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from piwheels.model.builds import (
    BuildOrder,
    BuildResult,
    Failure,
    FailureClass,
    Phase,
)
from piwheels.model.errors import BadWheel, PiwheelsError
from piwheels.protocol.slave import LOG_NAME
from piwheels.rules.failures import one_line
from piwheels.rules.ingest import WheelReport, inspect, is_degraded, refusal
from piwheels.slave.buildlog import BuildLog
from piwheels.slave.clock import Clock
from piwheels.slave.environments import Environment, Environments, Request
from piwheels.slave.failed import BuildFailed, Cancelled, failed, failure_of_system
from piwheels.slave.fetch import fetch
from piwheels.slave.hooks import Hooks, lay_out
from piwheels.slave.interpreter import Interpreter
from piwheels.slave.project import check_python, read_build_system
from piwheels.slave.room import Room, open_plain, open_room
from piwheels.slave.sandbox import Cell, Sandbox
from piwheels.slave.sdist import Source, unpack

MOST_WHEEL_BYTES = 8 * 1024**3
CHUNK = 1024 * 1024


class Builder:
    """Builds wheels for one interpreter. Any number of builds may run at once, in threads.

    directory: for rooms and build environments; slaves on one machine may share it.
    """

    def __init__(self, directory: Path, interpreter: Interpreter, sandbox: Sandbox):
        self.rooms = directory / "builds"
        self.interpreter = interpreter
        self.sandbox = sandbox
        self.environments = Environments(
            directory / "environments", interpreter, sandbox.protects_environment
        )

    def build(
        self,
        order: BuildOrder,
        spool: Path,
        cancelled: threading.Event,
        on_phase: Callable[[Phase], None],
    ) -> BuildResult:
        """Build *order*; log and wheel end in the directory *spool*.

        Whatever a package can do wrong and the slave's system can refuse ends as a failure in
        the result, and so does cancellation, as a lost slave. Afterwards nothing runs or lies
        about but what is in *spool*.
        """
        clock = Clock.start(order.limits.seconds, cancelled)
        try:
            log = BuildLog(spool / LOG_NAME, order.limits.output)
        except OSError as error:
            return BuildResult(failure=failure_of_system(error))
        with log:
            work = _Work(self, order, spool, clock, log, on_phase)
            failure = work.run()
            return replace(work.result, failure=failure, seconds=clock.elapsed, phases=work.phases)


@dataclass
class _Work:
    """One build under way. result: what is known of it until now."""

    builder: Builder
    order: BuildOrder
    spool: Path
    clock: Clock
    log: BuildLog
    on_phase: Callable[[Phase], None]
    phases: dict[str, float] = field(default_factory=dict)
    result: BuildResult = field(init=False)

    def __post_init__(self) -> None:
        sandbox = self.builder.sandbox
        self.result = BuildResult(
            log=self.log.path,
            sandbox=str(sandbox.level),
            network_used=self.order.network or not sandbox.cuts_network,
        )

    def run(self) -> Failure | None:
        """Do every step; return why it failed. The log ends with the verdict."""
        try:
            self._introduce()
            with open_room(self.builder.rooms) as room:
                self._build_in(room)
            failure = None
        except BuildFailed as error:
            failure = error.failure
        except Cancelled as error:
            failure = Failure(FailureClass.SLAVE_LOST, str(error))
        except PiwheelsError as error:  # a tool of the sandbox is gone, say
            failure = Failure(FailureClass.SANDBOX, one_line(str(error)))
        except OSError as error:
            failure = failure_of_system(error)
        with suppress(OSError):  # a full disk takes no verdict, but the master can be told
            self._conclude(failure)
        return failure

    def _build_in(self, room: Room) -> None:
        with self._phase(Phase.FETCHING, f"Fetching {self.order.sdist.filename}"):
            archive = self._fetch(room)
        with self._phase(Phase.PREPARING, "Unpacking"):
            source = self._unpack(archive, room)
        sandbox, limits = self.builder.sandbox, self.order.limits
        with sandbox.cell(room, limits, self.order.network) as cell:
            try:
                name = self._run_hooks(cell, source)
            finally:
                self._note_usage(cell)
        with self._phase(Phase.INSPECTING, f"Inspecting {one_line(name)}"):
            self._inspect(self._take(room, name))

    def _fetch(self, room: Room) -> Path:
        archive = room.download / Path(self.order.sdist.filename).name
        fetch(self.order.sdist, archive, self.clock)
        self.log.say(f"{archive.stat().st_size} bytes, sha256 {self.order.sdist.sha256}")
        return archive

    def _unpack(self, archive: Path, room: Room) -> Source:
        unpacked = room.download / "unpacked"
        unpacked.mkdir()
        source = unpack(archive, unpacked, self.clock)
        archive.unlink()
        room.source.rmdir()
        source.top.rename(room.source)
        check_python(room.source, self.builder.interpreter.version)
        return source

    def _run_hooks(self, cell: Cell, source: Source) -> str:
        """Prepare the environment and build; return the name of the wheel."""
        system = read_build_system(cell.room.source)
        lay_out(cell.room.tools)
        cell.admit()
        epoch = {"SOURCE_DATE_EPOCH": str(source.newest)}
        hooks = Hooks(cell, system, {**epoch, **self.order.environment}, self.clock, self.log)
        with self._phase(Phase.PREPARING, "Installing build requirements"):
            self.log.say(", ".join(system.requires) or "none")
            with self._environment(system.requires) as environment:
                self.log.heading(f"Asking {system.backend} what else it requires")
                extra = hooks.requires_for_wheel(environment)
        with self._environment((*system.requires, *extra)) as environment:
            with self._phase(Phase.PREPARING, "Installing what it asks for"):
                self._describe(environment, extra)
            with self._phase(Phase.BUILDING, f"Building the wheel with {system.backend}"):
                return hooks.build_wheel(environment)

    @contextmanager
    def _environment(self, requirements: tuple[str, ...]) -> Iterator[Environment]:
        request = Request(
            tuple(sorted(set(requirements))),
            self.order.index_urls,
            self.order.tools_before,
        )
        with self.builder.environments.provide(request, self.clock) as environment:
            yield environment

    def _describe(self, environment: Environment, extra: tuple[str, ...]) -> None:
        self.result = replace(self.result, environment=environment.packages)
        self.log.say(", ".join(extra) or "nothing")
        versions = (f"{name} {version}" for name, version in environment.packages.items())
        self.log.say(f"installed: {', '.join(versions) or 'nothing'}")

    def _take(self, room: Room, name: str) -> Path:
        """Copy the wheel of that *name*, which the backend chose, to the spool."""
        if Path(name).name != name or not name.endswith(".whl"):
            raise failed(FailureClass.BAD_WHEEL, f"{name!r} is not a wheel's name")
        wheel = self.spool / name
        try:
            built = open_plain(room.wheels / name, MOST_WHEEL_BYTES)
        except ValueError as error:
            raise failed(FailureClass.BAD_WHEEL, str(error)) from error
        with built, wheel.open("wb") as kept:
            shutil.copyfileobj(built, kept, CHUNK)
        return wheel

    def _inspect(self, wheel: Path) -> None:
        """Keep *wheel* if it is what was asked for; raise BuildFailed and remove it if not."""
        try:
            with wheel.open("rb") as file:
                report = inspect(file, wheel.name)
            self._judge(report)
        except BadWheel as error:
            wheel.unlink()
            raise failed(FailureClass.BAD_WHEEL, str(error)) from error
        except BuildFailed:
            wheel.unlink()
            raise
        self.result = replace(self.result, wheels=(wheel,))
        self.log.say(f"{wheel.name}: {wheel.stat().st_size} bytes, {len(report.native)} native")

    def _judge(self, report: WheelReport) -> None:
        order = self.order
        if reason := refusal(report, order.package, order.version, self.builder.interpreter.tags):
            raise failed(FailureClass.BAD_WHEEL, reason)
        if is_degraded(report, order.native):
            raise failed(
                FailureClass.DEGRADED_WHEEL,
                f"{report.filename} holds no native code, though other wheels of"
                f" {order.version} do",
                "look in the log for the extension that was left out",
            )

    @contextmanager
    def _phase(self, phase: Phase, heading: str) -> Iterator[None]:
        self.clock.check()
        if phase.value not in self.phases:
            self.on_phase(phase)
        self.log.heading(heading)
        began = time.monotonic()
        try:
            yield
        finally:
            spent = self.phases.get(phase.value, 0.0)
            self.phases[phase.value] = spent + time.monotonic() - began

    def _note_usage(self, cell: Cell) -> None:
        self.result = replace(
            self.result,
            cpu_seconds=cell.used.cpu_seconds,
            peak_memory=cell.used.peak_memory,
        )

    def _introduce(self) -> None:
        order, offer = self.order, self.builder.interpreter.offer
        network = "with network" if self.result.network_used else "without network"
        self.log.say(f"{order.package} {order.version} for {offer.label} ({offer.name})")
        self.log.say(f"build {order.build_id}, sandbox {self.result.sandbox}, {network}")
        if order.tools_before is not None:
            self.log.say(f"with build tools of {order.tools_before:%Y-%m-%d}")

    def _conclude(self, failure: Failure | None) -> None:
        self.log.heading("Verdict")
        if failure is None:
            self.log.say(f"success: {', '.join(wheel.name for wheel in self.result.wheels)}")
        else:
            self.log.say(f"{failure.kind}: {failure.cause}")
            if failure.fix:
                self.log.say(f"what would help: {failure.fix}")
        self.log.say(
            f"{self.clock.elapsed:.1f} seconds, {self.result.cpu_seconds:.1f} of processor,"
            f" {self.result.peak_memory // 1024**2} MiB at most in one process"
        )
