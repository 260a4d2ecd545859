"""The slave's daemon: performs what piwheels.slave.session decides.

The conversation runs in its own thread and touches neither build nor transfer, so a sign of
life is never late because of them. Builds and deliveries run in a thread each and report
back as events.
"""

import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from piwheels.model.builds import BuildOrder, BuildResult, Limits, Phase, Sdist
from piwheels.model.errors import BadMessage, IllegalMessage
from piwheels.model.targets import TargetOffer
from piwheels.protocol.slave import (
    FROM_SLAVE,
    PROTOCOL,
    TO_SLAVE,
    Ack,
    Build,
    Built,
    Busy,
    Health,
    Hello,
    Idle,
    OfferedTarget,
    Resources,
    Who,
)
from piwheels.slave import session as rules
from piwheels.slave.failed import failure_of_system
from piwheels.slave.session import Gone, Session
from piwheels.slave.spool import Spool, log_tail
from piwheels.transport import Caller, Mailbox, Waiter

log = logging.getLogger(__name__)

TICK = 1.0  # seconds
LAST_WORDS_MS = 500  # for BYE to leave


class Builder(Protocol):
    """Turns an order into a result; never raises for what a build can do wrong."""

    def build(
        self,
        order: BuildOrder,
        spool: Path,
        cancelled: threading.Event,
        on_phase: Callable[[Phase], None],
    ) -> BuildResult:
        """Build *order*; log and wheels end in *spool*."""


Uploader = Callable[[bytes, dict[str, Path], threading.Event], object]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this slave is. run: of this process, so that a second one of its label is known."""

    label: str
    target: TargetOffer
    run: bytes = field(default_factory=partial(secrets.token_bytes, 16))


class Daemon:
    """One slave. *upload* gives the files of a lease to the receiver, or tries until told."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        builder: Builder,
        upload: Uploader,
        spool: Spool,
        resources: Callable[[], Resources],
        health: Callable[[], Health],
    ) -> None:
        self.identity = identity
        self.builder = builder
        self.upload = upload
        self.spool = spool
        self.resources = resources
        self.health = health
        self.caller = Caller(address)
        self.mailbox = Mailbox()
        self.events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.phase = Phase.FETCHING
        self.cancelled = threading.Event()
        self.index_urls: tuple[str, ...] = ()
        self.said_image = ""
        self.parting: rules.Leave | None = None

    def run(self) -> rules.Leave:
        """Serve the master until either side ends it; return why."""
        waiter = Waiter(self.caller, self.mailbox)
        self._perform(rules.begin(time.monotonic(), *self._kept_result()))
        while self.parting is None:
            waiter.wait(TICK)
            self.mailbox.drain()
            self._hear()
            while not self.events.empty():
                self._on_event(self.events.get())
            self._on_event(rules.Tick())
        self.caller.close(LAST_WORDS_MS)  # the mailbox stays: other threads may still post to it
        return self.parting

    def quit(self) -> None:
        """End as soon as may be; from any thread or signal handler."""
        self._post(rules.Quit())

    def _kept_result(self) -> tuple[bytes | None, Built | None]:
        """The oldest result that an earlier run kept, to be delivered first."""
        built = next(self.spool.results(), None)
        return (None, None) if built is None else (built.lease, built)

    def _post(self, event: object) -> None:
        self.events.put(event)
        self.mailbox.wake()

    def _hear(self) -> None:
        frame = self.caller.answer()
        if frame is None:
            return
        try:
            message = TO_SLAVE.decode(frame)
        except BadMessage as error:
            log.warning("the master sent something strange: %s", error)
            return
        if isinstance(message, Ack):
            self.index_urls = message.index_urls
        self._on_event(message)

    def _on_event(self, event: object) -> None:
        try:
            self._perform(rules.step(self.session, event, time.monotonic()))
        except IllegalMessage as error:
            log.warning("the master is out of step: %s", error)

    def _perform(self, step: tuple[Session, list[rules.Action]]) -> None:
        before = getattr(self, "session", Gone())
        self.session, actions = step
        if type(before) is not type(self.session):
            log.debug("%s", type(self.session).__name__)
        for action in actions:
            self._act(action)

    def _act(self, action: rules.Action) -> None:
        match action:
            case rules.SayHello(lease):
                self._say(self._hello(lease))
            case rules.SayIdle():
                self._say_idle()
            case rules.SayBusy(lease):
                tail = log_tail(self.spool.folder(lease))
                self._say(Busy(lease, self.phase, self.health(), tail))
            case rules.Say(message):
                self._say(message)
            case rules.Start(build):
                self._start(self._build, build)
            case rules.Deliver(built, names):
                self._start(self._deliver, built, names)
            case rules.Abort():
                self.cancelled.set()
            case rules.Forget(lease):
                self.spool.forget(lease)
            case rules.Leave():
                self.parting = action

    def _say(self, message: object) -> None:
        self.caller.ask(FROM_SLAVE.encode(message))

    def _say_idle(self) -> None:
        """Ask for work; but if something was installed here meanwhile, say so first."""
        if self.resources().image == self.said_image:
            self._say(Idle(self.health()))
        else:
            self._on_event(Who())  # as if the master had asked who this is

    def _hello(self, lease: bytes | None) -> Hello:
        target, resources = self.identity.target, self.resources()
        self.said_image = resources.image
        return Hello(
            protocol=PROTOCOL,
            label=self.identity.label,
            target=OfferedTarget(target.name, target.label, target.python, target.tags),
            resources=resources,
            clock=datetime.now(UTC),
            lease=lease,
            run=self.identity.run,
        )

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        self.cancelled = threading.Event()
        threading.Thread(
            target=work, args=(*arguments, self.cancelled), name=work.__name__, daemon=True
        ).start()

    def _build(self, build: Build, cancelled: threading.Event) -> None:
        log.info("building %s %s", build.package, build.version)
        built: Built | None = None
        try:
            result = self._attempt(build, cancelled)
            if not cancelled.is_set():
                built = self.spool.keep(build.lease, result)
                log.info("%s %s: %s", build.package, build.version, _verdict(result))
        except Exception:
            log.exception("the builder failed on %s %s", build.package, build.version)
        self._post(rules.Finished(built))

    def _attempt(self, build: Build, cancelled: threading.Event) -> BuildResult:
        try:
            folder = self.spool.open(build.lease)
        except OSError as error:
            return BuildResult(failure=failure_of_system(error))
        return self.builder.build(self._order(build), folder, cancelled, self._on_phase)

    def _on_phase(self, phase: Phase) -> None:
        self.phase = phase
        self._post(rules.Proceeded())

    def _order(self, build: Build) -> BuildOrder:
        sdist, limits = build.sdist, build.limits
        return BuildOrder(
            build_id=build.build_id,
            package=build.package,
            version=build.version,
            sdist=Sdist(sdist.filename, sdist.url, sdist.sha256, sdist.size),
            limits=Limits(
                seconds=limits.seconds,
                silence=limits.silence,
                memory=limits.memory,
                processes=limits.processes,
                output=limits.output,
                disk=limits.disk,
            ),
            network=build.network,
            native=build.native,
            environment=dict(build.environment),
            index_urls=self.index_urls,
            tools_before=build.tools_before,
        )

    def _deliver(self, built: Built, names: tuple[str, ...], cancelled: threading.Event) -> None:
        self.phase = Phase.DELIVERING
        files = self.spool.files(built)
        try:
            self.upload(built.lease, {name: files[name] for name in names}, cancelled)
        except Exception:
            log.exception("the delivery of %s failed", ", ".join(names))
        self._post(rules.Delivered())


def _verdict(result: BuildResult) -> str:
    if result.failure is None:
        return f"built {', '.join(path.name for path in result.wheels)}"
    return f"failed: {result.failure.cause}"
