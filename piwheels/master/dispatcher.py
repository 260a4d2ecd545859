"""The dispatcher: speaks with slaves; grants, extends and ends leases; commits builds.

Each turn takes what has arrived, at most BATCH messages, through one transaction, and
answers when that is committed: what a slave is told is true whatever happens next. A
message that breaks its transaction is tried again alone, so that it spoils nobody else's.
"""

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from piwheels.database import leases
from piwheels.database.connection import WakeUps, transaction
from piwheels.database.queue import fell_due
from piwheels.master import conclusion, queue
from piwheels.model.builds import Limits
from piwheels.model.errors import BadMessage, IllegalMessage, Unavailable
from piwheels.model.targets import TargetOffer
from piwheels.protocol.slave import (
    FROM_SLAVE,
    TO_SLAVE,
    Build,
    Busy,
    Hello,
    OrderedLimits,
    OrderedSdist,
)
from piwheels.rules import slave_session as rules
from piwheels.rules.queue import is_native_on_pypi
from piwheels.rules.slave_session import Asking, Claim, Nothing, Session, Stranger, Timing
from piwheels.rules.targets import default_rank
from piwheels.transport import Listener, Waiter
from piwheels.transport.sockets import Peer

log = logging.getLogger(__name__)

TICK = 1.0  # seconds
BATCH = 256  # messages in one transaction
MOST_SESSIONS = 20_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator sets. activate_new_targets: else they wait for an operator."""

    timing: Timing = field(default_factory=Timing)
    limits: Limits = field(default_factory=Limits)
    allow_network: bool = False
    index_urls: tuple[str, ...] = ()
    activate_new_targets: bool = True


@dataclass(frozen=True, slots=True)
class Parked:
    """A slave whose IDLE has no answer yet. until: monotonic seconds."""

    peer: Peer
    claim: Claim
    until: float


@dataclass(slots=True)
class Turn:
    """What one transaction comes to; counts only once it is committed.

    touched: versions to refresh at its end.
    """

    connection: Connection
    sessions: dict[bytes, Session] = field(default_factory=dict)
    replies: list[tuple[Peer, object]] = field(default_factory=list)
    parked: dict[bytes, Parked] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)


class Dispatcher:
    """The service. *clock* gives monotonic seconds, *wall_clock* seconds since the epoch."""

    def __init__(
        self,
        engine: Engine,
        address: str,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self.settings = settings
        self.clock = clock
        self.wall_clock = wall_clock
        self.listener = Listener(address)
        self.sessions: OrderedDict[bytes, Session] = OrderedDict()
        self.parked: dict[bytes, Parked] = {}
        self.looked_for_retries = clock()

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        while not is_stopping():
            try:
                with WakeUps(self.engine, "queue") as wake_ups:
                    self._serve(wake_ups, is_stopping, beat)
            except Unavailable as error:
                self._wait_for_database(error, beat)
        self.listener.close(linger_ms=500)

    def _serve(
        self, wake_ups: WakeUps, is_stopping: Callable[[], bool], beat: Callable[[], None]
    ) -> None:
        waiter = Waiter(self.listener, wake_ups)
        while not is_stopping():
            waiter.wait(TICK)
            beat()
            if wake_ups.drain() or self._is_retry_due():
                self._claim_for_parked()
            self._hear()
            self._release_parked()

    def _wait_for_database(self, error: Unavailable, beat: Callable[[], None]) -> None:
        """Slaves repeat what they said meanwhile: it is dropped rather than kept."""
        log.warning("%s; trying again", error)
        until = self.clock() + 2.0
        while (left := until - self.clock()) > 0:
            Waiter(self.listener).wait(left)
            while self.listener.hear():
                pass
            beat()

    def _hear(self) -> None:
        heard: list[tuple[Peer, object]] = []
        while len(heard) < BATCH and (arrived := self.listener.hear()):
            peer, frame = arrived
            try:
                heard.append((peer, FROM_SLAVE.decode(frame)))
            except BadMessage as error:
                self._drop(peer, error)
        if heard:
            self._take(heard, self._on_message)

    def _take(self, items: list[tuple[Peer, object]], handle: "Handle") -> None:
        """Handle *items* in one transaction; if one of them breaks it, each in its own."""
        try:
            self._in_one_turn(items, handle)
        except DBAPIError:
            if len(items) == 1:
                log.exception("%s of a slave breaks its transaction", type(items[0][1]).__name__)
                return
            for item in items:
                self._take([item], handle)

    def _in_one_turn(self, items: Iterable[tuple[Peer, object]], handle: "Handle") -> None:
        with transaction(self.engine) as connection:
            turn = Turn(connection)
            for peer, item in items:
                handle(turn, peer, item)
            queue.refresh(connection, turn.touched)
        for identity, session in turn.sessions.items():
            self.sessions[identity] = session
            self.sessions.move_to_end(identity)
            self.parked.pop(identity, None)
        self.parked |= turn.parked
        for peer, message in turn.replies:
            self.listener.answer(peer, TO_SLAVE.encode(message))
        while len(self.sessions) > MOST_SESSIONS:
            self.sessions.popitem(last=False)  # it says HELLO again, should it come back

    def _drop(self, peer: Peer, error: Exception) -> None:
        log.warning("dropped a peer: %s", error)
        self.sessions.pop(peer[0], None)
        self.parked.pop(peer[0], None)

    # The conversation: rules.slave_session decides, this performs.

    def _on_message(self, turn: Turn, peer: Peer, message: object) -> None:
        event: object | None = message
        while event is not None:
            session = turn.sessions.get(peer[0]) or self.sessions.get(peer[0], Stranger())
            try:
                session, actions = rules.step(session, event, self.settings.timing)
            except IllegalMessage as error:
                self._drop(peer, error)
                return
            turn.sessions[peer[0]] = session
            event = None
            for action in actions:
                event = self._perform(turn, peer, action)

    def _perform(self, turn: Turn, peer: Peer, action: object) -> object | None:
        """Do it; return the database's answer, if it has one by now."""
        match action:
            case rules.Reply(message):
                turn.replies.append((peer, message))
                return None
            case rules.Register(hello):
                return self._register(turn, hello)
            case rules.Claim():
                build = self._claim(turn, action)
                if build is None:
                    self._park(turn, peer, action)
                return build
            case rules.Extend(slave, busy):
                return self._extend(turn, slave, busy)
            case rules.Conclude(slave, lease, built):
                seconds = self.settings.timing.lease
                return conclusion.conclude(turn, slave, lease, built, seconds)
            case rules.Release(slave):
                self._release(turn, slave)
                return None
        raise TypeError(f"no such action: {action!r}")

    def _register(self, turn: Turn, hello: Hello) -> rules.Registered:
        if not rules.is_clock_sane(hello, self.wall_clock()):
            reason = (
                f"this slave's clock says {hello.clock:%Y-%m-%d %H:%M:%S} UTC, which is more than "
                f"{rules.FARTHEST_CLOCK:.0f} seconds off: set it (timedatectl set-ntp true)"
            )
            return rules.Registered(0, refusal=reason)
        offered = hello.target
        offer = TargetOffer(offered.name, offered.label, offered.python, offered.tags)
        target_id = leases.put_target(
            turn.connection,
            offer,
            rank=default_rank(offered.python),
            active=self.settings.activate_new_targets,
        )
        machine = leases.Machine(**asdict(hello.resources))
        slave_id = leases.put_slave(turn.connection, hello.label, target_id, machine)
        lease = self._settle_leases(turn, slave_id, hello)
        return rules.Registered(slave_id, lease, index_urls=self.settings.index_urls)

    def _settle_leases(self, turn: Turn, slave_id: int, hello: Hello) -> bytes | None:
        """The lease that the slave names, if it stands; the others it holds are lost."""
        for held in leases.held(turn.connection, slave_id):
            if held.token != hello.lease:
                cause = f"{hello.label} restarted in the middle of the build"
                leases.give_up(turn.connection, held.build_id, cause)
                turn.touched.add(held.version_id)
        if hello.lease and leases.stands(
            turn.connection, slave_id, hello.lease, self.settings.timing.lease
        ):
            return hello.lease
        return None

    def _claim(self, turn: Turn, claim: Claim) -> Build | None:
        leases.seen(turn.connection, claim.slave, asdict(claim.idle.health))
        token = secrets.token_bytes(16)
        seconds = self.settings.timing.lease
        order = leases.claim(turn.connection, claim.slave, token, seconds)
        if order is None:
            return None
        return Build(
            lease=order.token,
            build_id=order.build_id,
            package=order.package,
            version=order.version,
            sdist=OrderedSdist(**asdict(order.sdist)),
            limits=OrderedLimits(**asdict(self.settings.limits)),
            network=self.settings.allow_network,
            native=is_native_on_pypi(order.pypi_tags),
        )

    def _park(self, turn: Turn, peer: Peer, claim: Claim) -> None:
        """Answer later: when work comes, or when the slave has waited long enough."""
        until = self.clock() + self.settings.timing.patience
        turn.parked[peer[0]] = Parked(peer, claim, until)

    def _is_retry_due(self) -> bool:
        now = self.clock()
        if not self.parked or now - self.looked_for_retries < TICK:
            return False
        since = now - self.looked_for_retries
        self.looked_for_retries = now
        with transaction(self.engine) as connection:
            return fell_due(connection, since + TICK)

    def _claim_for_parked(self) -> None:
        waiting = [(parked.peer, parked.claim) for parked in self.parked.values()]
        for first in range(0, len(waiting), BATCH):
            self._take([*waiting[first : first + BATCH]], self._on_second_look)

    def _on_second_look(self, turn: Turn, peer: Peer, claim: object) -> None:
        assert isinstance(claim, Claim)
        if build := self._claim(turn, claim):
            self._on_message(turn, peer, build)

    def _release_parked(self) -> None:
        now = self.clock()
        for identity, parked in list(self.parked.items()):
            if parked.until <= now and isinstance(self.sessions.get(identity), Asking):
                self._take([(parked.peer, parked.claim)], self._on_last_look)

    def _on_last_look(self, turn: Turn, peer: Peer, claim: object) -> None:
        assert isinstance(claim, Claim)
        answer = self._claim(turn, claim) or Nothing("nothing waits for this target")
        self._on_message(turn, peer, answer)

    def _extend(self, turn: Turn, slave: int, busy: Busy) -> rules.Extended | rules.Void:
        leases.seen(turn.connection, slave, asdict(busy.health))
        seconds = self.settings.timing.lease
        if leases.stands(turn.connection, slave, busy.lease, seconds, busy.phase, busy.log_tail):
            return rules.Extended()
        return rules.Void(conclusion.GIVEN_AWAY)

    def _release(self, turn: Turn, slave: int) -> None:
        for held in leases.held(turn.connection, slave):
            leases.end(turn.connection, held.build_id)
            turn.touched.add(held.version_id)
        leases.gone(turn.connection, slave)


Handle = Callable[[Turn, Peer, object], None]
