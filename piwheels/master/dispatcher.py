"""The dispatcher: speaks with slaves; grants, extends and ends leases; commits builds.

Each turn takes what has arrived, at most BATCH messages, through one transaction, a few
statements for all of them together, and answers when that is committed: what a slave is told
is true whatever happens next. A message that breaks its turn is tried again alone, so that it
spoils nobody else's.
"""

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from piwheels.database import leases
from piwheels.database.connection import WakeUps, transaction
from piwheels.database.leases import Beat, Order, Sign
from piwheels.master import claims, conclusion, queue
from piwheels.model.builds import Limits
from piwheels.model.errors import BadMessage, IllegalMessage, Unavailable
from piwheels.model.targets import TargetOffer
from piwheels.protocol.slave import FROM_SLAVE, TO_SLAVE, Health, Hello
from piwheels.rules import resources
from piwheels.rules import slave_session as rules
from piwheels.rules.slave_session import (
    Asking,
    Claim,
    Conclude,
    Dismissed,
    Extend,
    Nothing,
    Register,
    Release,
    Reply,
    Session,
    Speaker,
    Stranger,
    Timing,
)
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
    target_id: int
    until: float


@dataclass(slots=True)
class Turn:
    """What one transaction comes to; counts only once it is committed.

    asked: of the database, by kind of action. again: parked slaves that are looked at once
    more. touched: versions to refresh.
    """

    connection: Connection
    sessions: dict[bytes, Session] = field(default_factory=dict)
    asked: dict[type, list[tuple[Peer, Any]]] = field(default_factory=dict)
    again: dict[bytes, Parked] = field(default_factory=dict)
    replies: list[tuple[Peer, object]] = field(default_factory=list)
    parked: dict[bytes, Parked] = field(default_factory=dict)
    dropped: list[tuple[Peer, Exception]] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)


Item = tuple[Peer, object]
"""What a turn is about: a message and who sent it, or a parked slave."""


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
        self.early: deque[Item] = deque()

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        while not is_stopping():
            try:
                with WakeUps(self.engine, "queue", "slaves") as wake_ups:
                    self._serve(wake_ups, is_stopping, beat)
            except Unavailable as error:
                self._wait_for_database(error, beat)
        self.listener.close(linger_ms=500)

    def _serve(
        self, wake_ups: WakeUps, is_stopping: Callable[[], bool], beat: Callable[[], None]
    ) -> None:
        waiter = Waiter(self.listener, wake_ups)
        again: Iterable[Parked] = self.parked.values()  # nobody woke us while we did not listen
        while not is_stopping():
            items = [*self._hear(), *((parked.peer, parked) for parked in again)]
            self.take(items)
            waiter.wait(0.0 if self.early else TICK)
            beat()
            again = self._worth_another_look(wake_ups.drain())

    def _wait_for_database(self, error: Unavailable, beat: Callable[[], None]) -> None:
        """Slaves repeat what they said meanwhile: it is dropped rather than kept."""
        log.warning("%s; trying again", error)
        self.early.clear()
        until = self.clock() + 2.0
        while (left := until - self.clock()) > 0:
            Waiter(self.listener).wait(left)
            while self.listener.hear():
                pass
            beat()

    def _hear(self) -> list[Item]:
        """The next messages, one of each peer: a turn answers each of them once."""
        heard: dict[bytes, Item] = {}
        early, self.early = self.early, deque()
        for item in early:
            self._note(heard, item)
        while len(heard) < BATCH and (arrived := self.listener.hear()):
            peer, frame = arrived
            try:
                self._note(heard, (peer, FROM_SLAVE.decode(frame)))
            except BadMessage as error:
                self._drop(peer, error)
        return list(heard.values())

    def _note(self, heard: dict[bytes, Item], item: Item) -> None:
        if heard.setdefault(item[0][0], item) is not item:
            self.early.append(item)

    def _worth_another_look(self, said: set[tuple[str, str]]) -> list[Parked]:
        """The parked slaves for which there may be something, or that have waited long enough.

        *said*: by the database.
        """
        targets = {int(payload) for channel, payload in said if channel == "queue"}
        is_steered = any(channel == "slaves" for channel, _ in said)
        now = self.clock()
        return [
            parked
            for identity, parked in self.parked.items()
            if (is_steered or parked.target_id in targets or parked.until <= now)
            and isinstance(self.sessions.get(identity), Asking)
        ]

    def take(self, items: Sequence[Item]) -> None:
        """Do *items* in turns; those of a turn that breaks, each in one of its own."""
        for first in range(0, len(items), BATCH):
            some = items[first : first + BATCH]
            try:
                self._in_one_turn(some)
            except DBAPIError:
                if len(some) == 1:
                    what = type(some[0][1]).__name__
                    log.exception("%s of a slave breaks its transaction", what)
                    continue
                for item in some:
                    self.take([item])

    def _in_one_turn(self, items: Iterable[Item]) -> None:
        with transaction(self.engine) as connection:
            turn = Turn(connection)
            for peer, item in items:
                if not isinstance(item, Parked):
                    self._advance(turn, peer, item)
                elif peer[0] not in turn.sessions:  # else it has said something newer
                    turn.again[peer[0]] = item
                    turn.asked.setdefault(Claim, []).append((peer, item.claim))
            self._perform(turn)
        for identity, session in turn.sessions.items():
            self.sessions[identity] = session
            self.sessions.move_to_end(identity)
            self.parked.pop(identity, None)
        self.parked |= turn.parked
        for peer, error in turn.dropped:
            self._drop(peer, error)
        for peer, message in turn.replies:
            self.listener.answer(peer, TO_SLAVE.encode(message))
        while len(self.sessions) > MOST_SESSIONS:
            self.sessions.popitem(last=False)  # it says HELLO again, should it come back

    def _drop(self, peer: Peer, error: Exception) -> None:
        log.warning("dropped a peer: %s", error)
        self.sessions.pop(peer[0], None)
        self.parked.pop(peer[0], None)

    # The conversation: rules.slave_session decides, this performs.

    def _advance(self, turn: Turn, peer: Peer, event: object) -> None:
        session = turn.sessions.get(peer[0]) or self.sessions.get(peer[0], Stranger())
        try:
            session, actions = rules.step(session, event, self.settings.timing)
        except IllegalMessage as error:
            turn.dropped.append((peer, error))
            return
        turn.sessions[peer[0]] = session
        for action in actions:
            match action:
                case Reply(message):
                    turn.replies.append((peer, message))
                case _:
                    turn.asked.setdefault(type(action), []).append((peer, action))

    def _perform(self, turn: Turn) -> None:
        """Ask the database, a kind of action at a time; claims come last.

        In this order no two transactions ever wait for each other: leases and slaves, then
        versions, then rows of the queue, for which nobody waits.
        """
        for kind, perform in (
            (Register, self._register_all),
            (Release, self._release_all),
            (Extend, self._extend_all),
            (Conclude, self._conclude_all),
        ):
            if asked := turn.asked.get(kind):
                perform(turn, asked)
        signs = [
            _sign(action.speaker, action.idle.health if kind is Claim else action.busy.health)
            for kind in (Claim, Extend)
            for peer, action in turn.asked.get(kind, ())
            if peer[0] not in turn.again
        ]
        if signs:
            leases.seen(turn.connection, list({sign.slave_id: sign for sign in signs}.values()))
        queue.refresh(turn.connection, turn.touched)
        if asked := turn.asked.get(Claim):
            self._claim_all(turn, asked)

    def _register_all(self, turn: Turn, asked: Sequence[tuple[Peer, Register]]) -> None:
        for peer, action in asked:
            self._advance(turn, peer, self._register(turn, action.hello))

    def _register(self, turn: Turn, hello: Hello) -> rules.Registered:
        if not rules.is_clock_sane(hello, self.wall_clock()):
            reason = (
                f"this slave's clock says {hello.clock:%Y-%m-%d %H:%M:%S} UTC, which is more than "
                f"{rules.FARTHEST_CLOCK:.0f} seconds off: set it (timedatectl set-ntp true)"
            )
            return rules.Registered(Speaker(0, hello.run), refusal=reason)
        before, past = leases.runs(turn.connection, hello.label)
        if hello.run in past:
            reason = claims.taken(hello.label)
            return rules.Registered(Speaker(0, hello.run), refusal=reason)
        offered = hello.target
        offer = TargetOffer(offered.name, offered.label, offered.python, offered.tags)
        target_id = leases.put_target(
            turn.connection,
            offer,
            rank=default_rank(offered.python),
            active=self.settings.activate_new_targets,
        )
        machine = leases.Machine(
            **asdict(hello.resources),
            size=resources.size_of(hello.resources.memory),
            run=hello.run,
        )
        slave_id = leases.put_slave(turn.connection, hello.label, target_id, machine)
        if before != hello.run:
            self._give_up_others(turn, slave_id, hello.lease)
        lease = self._stands(turn, slave_id, hello)
        return rules.Registered(
            Speaker(slave_id, hello.run), lease, index_urls=self.settings.index_urls
        )

    def _give_up_others(self, turn: Turn, slave_id: int, lease: bytes | None) -> None:
        """What the process before this one was at is lost, but for what this one names.

        Of its own, a process may not have heard yet: its next IDLE brings it to it again.
        """
        held = leases.held(turn.connection, slave_id)
        if others := [each.token for each in held if each.token != lease]:
            lost = leases.reported(turn.connection, others).values()
            cause = "{label} restarted in the middle of the build"
            turn.touched |= conclusion.give_up(turn.connection, lost, cause)

    def _stands(self, turn: Turn, slave_id: int, hello: Hello) -> bytes | None:
        """The lease that the slave names, if it stands."""
        if hello.lease is None:
            return None
        beat = Beat(hello.lease, slave_id, hello.run)
        stands = leases.stand(turn.connection, [beat], self.settings.timing.lease)
        return hello.lease if stands else None

    def _release_all(self, turn: Turn, asked: Sequence[tuple[Peer, Release]]) -> None:
        for _, action in asked:
            speaker = action.speaker
            if leases.gone(turn.connection, speaker.slave, speaker.run):
                held = leases.held(turn.connection, speaker.slave)
                leases.end(turn.connection, [each.build_id for each in held])
                turn.touched |= {each.version_id for each in held}

    def _extend_all(self, turn: Turn, asked: Sequence[tuple[Peer, Extend]]) -> None:
        beats = {
            action.busy.lease: Beat(
                action.busy.lease,
                action.speaker.slave,
                action.speaker.run,
                action.busy.phase,
                action.busy.log_tail,
            )
            for _, action in asked
        }
        standing = leases.stand(turn.connection, beats.values(), self.settings.timing.lease)
        for peer, action in asked:
            is_standing = action.busy.lease in standing
            void = rules.Void(conclusion.GIVEN_AWAY)
            self._advance(turn, peer, rules.Extended() if is_standing else void)

    def _conclude_all(self, turn: Turn, asked: Sequence[tuple[Peer, Conclude]]) -> None:
        answers, touched = conclusion.conclude(
            turn.connection, [action for _, action in asked], self.settings.timing.lease
        )
        turn.touched |= touched
        for peer, action in asked:
            self._advance(turn, peer, answers[action.lease])

    def _claim_all(self, turn: Turn, asked: Sequence[tuple[Peer, Claim]]) -> None:
        speakers = list(dict.fromkeys(action.speaker for _, action in asked))
        answers, targets = claims.grant(turn.connection, speakers, self.settings.timing.lease)
        for peer, action in asked:
            match answers[action.speaker]:
                case Order() as order:
                    build = claims.build(order, self.settings.limits, self.settings.allow_network)
                    self._advance(turn, peer, build)
                case Nothing(reason):
                    self._park(turn, peer, action, targets[action.speaker], reason)
                case Dismissed() as dismissed:
                    self._advance(turn, peer, dismissed)

    def _park(self, turn: Turn, peer: Peer, claim: Claim, target_id: int, reason: str) -> None:
        """Answer later: when work comes, or when the slave has waited long enough."""
        now = self.clock()
        before = turn.again.get(peer[0])
        if before is not None and before.until <= now:
            self._advance(turn, peer, Nothing(reason))
            return
        until = before.until if before else now + self.settings.timing.patience
        turn.parked[peer[0]] = Parked(peer, claim, target_id, until)


def _sign(speaker: Speaker, health: Health) -> Sign:
    return Sign(
        speaker.slave,
        health.memory_free,
        health.disk_free,
        health.load,
        health.temperature,
        resources.unfit(health.disk_free, health.memory_free, health.temperature),
    )
