"""A turn of the dispatcher: what some slaves said goes through one transaction.

A few statements do all of it, whatever the number of messages: see docs/design/slave-protocol.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine

from piwheels.database import leases
from piwheels.database.connection import transaction
from piwheels.database.leases import Beat, Order, Sign
from piwheels.master import claims, conclusion, queue
from piwheels.model.builds import Limits
from piwheels.model.errors import IllegalMessage
from piwheels.model.targets import TargetOffer
from piwheels.protocol.slave import Health, Hello
from piwheels.rules import resources
from piwheels.rules import slave_session as rules
from piwheels.rules.slave_session import (
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
from piwheels.transport.sockets import Peer


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


Item = tuple[Peer, object]
"""What a turn is about: a message and who sent it, or a parked slave."""


@dataclass(slots=True)
class Turn:
    """What a turn comes to: counts only once it is committed.

    sessions: as they are after it. replies: in the order in which they are to be sent. parked:
    slaves that must go on waiting. dropped: peers that broke the conversation.
    """

    sessions: dict[bytes, Session] = field(default_factory=dict)
    replies: list[tuple[Peer, object]] = field(default_factory=list)
    parked: dict[bytes, Parked] = field(default_factory=dict)
    dropped: list[tuple[Peer, Exception]] = field(default_factory=list)


def take(
    engine: Engine,
    items: Iterable[Item],
    sessions: Mapping[bytes, Session],
    settings: Settings,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> Turn:
    """Do *items*, at most one message of each peer, in one transaction.

    sessions: of peers, as far as they are known; not changed. Raise Unavailable, DBAPIError.
    """
    with transaction(engine) as connection:
        work = _Work(connection, sessions, settings, clock, wall_clock)
        work.run(items)
    return work.turn


@dataclass(slots=True)
class _Work:
    """asked: of the database, by kind of action. again: parked slaves that are looked at once
    more. touched: versions to refresh. clock: monotonic seconds; wall_clock: since the epoch.
    """

    connection: Connection
    before: Mapping[bytes, Session]
    settings: Settings
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    turn: Turn = field(default_factory=Turn)
    asked: dict[type, list[tuple[Peer, Any]]] = field(default_factory=dict)
    again: dict[bytes, Parked] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)

    def run(self, items: Iterable[Item]) -> None:
        """Do them all."""
        for peer, item in items:
            if not isinstance(item, Parked):
                self._advance(peer, item)
            elif peer[0] not in self.turn.sessions:  # else it has said something newer
                self.again[peer[0]] = item
                self.asked.setdefault(Claim, []).append((peer, item.claim))
        self._perform()

    # The conversation: rules.slave_session decides, this performs.

    def _advance(self, peer: Peer, event: object) -> None:
        session = self.turn.sessions.get(peer[0]) or self.before.get(peer[0], Stranger())
        try:
            session, actions = rules.step(session, event, self.settings.timing)
        except IllegalMessage as error:
            self.turn.dropped.append((peer, error))
            return
        self.turn.sessions[peer[0]] = session
        for action in actions:
            match action:
                case Reply(message):
                    self.turn.replies.append((peer, message))
                case _:
                    self.asked.setdefault(type(action), []).append((peer, action))

    def _perform(self) -> None:
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
            if asked := self.asked.get(kind):
                perform(asked)
        signs = [
            _sign(action.speaker, action.idle.health if kind is Claim else action.busy.health)
            for kind in (Claim, Extend)
            for peer, action in self.asked.get(kind, ())
            if peer[0] not in self.again
        ]
        if signs:
            leases.seen(self.connection, list({sign.slave_id: sign for sign in signs}.values()))
        queue.refresh(self.connection, self.touched)
        if asked := self.asked.get(Claim):
            self._claim_all(asked)

    def _register_all(self, asked: Sequence[tuple[Peer, Register]]) -> None:
        for peer, action in asked:
            self._advance(peer, self._register(action.hello))

    def _register(self, hello: Hello) -> rules.Registered:
        if not rules.is_clock_sane(hello, self.wall_clock()):
            reason = (
                f"this slave's clock says {hello.clock:%Y-%m-%d %H:%M:%S} UTC, which is more than "
                f"{rules.FARTHEST_CLOCK:.0f} seconds off: set it (timedatectl set-ntp true)"
            )
            return rules.Registered(Speaker(0, hello.run), refusal=reason)
        before, past = leases.runs(self.connection, hello.label)
        if hello.run in past:
            reason = claims.taken(hello.label)
            return rules.Registered(Speaker(0, hello.run), refusal=reason)
        offered = hello.target
        offer = TargetOffer(offered.name, offered.label, offered.python, offered.tags)
        target_id = leases.put_target(
            self.connection,
            offer,
            rank=default_rank(offered.python),
            active=self.settings.activate_new_targets,
        )
        machine = leases.Machine(
            **asdict(hello.resources),
            size=resources.size_of(hello.resources.memory),
            run=hello.run,
        )
        slave_id = leases.put_slave(self.connection, hello.label, target_id, machine)
        if before != hello.run:
            self._give_up_others(slave_id, hello.lease)
        lease = self._stands(slave_id, hello)
        return rules.Registered(
            Speaker(slave_id, hello.run), lease, index_urls=self.settings.index_urls
        )

    def _give_up_others(self, slave_id: int, lease: bytes | None) -> None:
        """What the process before this one was at is lost, but for what this one names.

        Of its own, a process may not have heard yet: its next IDLE brings it to it again.
        """
        held = leases.held(self.connection, slave_id)
        if others := [each.token for each in held if each.token != lease]:
            lost = leases.reported(self.connection, others).values()
            cause = "{label} restarted in the middle of the build"
            self.touched |= conclusion.give_up(self.connection, lost, cause)

    def _stands(self, slave_id: int, hello: Hello) -> bytes | None:
        """The lease that the slave names, if it stands."""
        if hello.lease is None:
            return None
        beat = Beat(hello.lease, slave_id, hello.run)
        stands = leases.stand(self.connection, [beat], self.settings.timing.lease)
        return hello.lease if stands else None

    def _release_all(self, asked: Sequence[tuple[Peer, Release]]) -> None:
        for _, action in asked:
            speaker = action.speaker
            if leases.gone(self.connection, speaker.slave, speaker.run):
                held = leases.held(self.connection, speaker.slave)
                leases.end(self.connection, [each.build_id for each in held])
                self.touched |= {each.version_id for each in held}

    def _extend_all(self, asked: Sequence[tuple[Peer, Extend]]) -> None:
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
        standing = leases.stand(self.connection, beats.values(), self.settings.timing.lease)
        for peer, action in asked:
            is_standing = action.busy.lease in standing
            void = rules.Void(conclusion.GIVEN_AWAY)
            self._advance(peer, rules.Extended() if is_standing else void)

    def _conclude_all(self, asked: Sequence[tuple[Peer, Conclude]]) -> None:
        answers, touched = conclusion.conclude(
            self.connection, [action for _, action in asked], self.settings.timing.lease
        )
        self.touched |= touched
        for peer, action in asked:
            self._advance(peer, answers[action.lease])

    def _claim_all(self, asked: Sequence[tuple[Peer, Claim]]) -> None:
        speakers = list(dict.fromkeys(action.speaker for _, action in asked))
        answers, targets = claims.grant(self.connection, speakers, self.settings.timing.lease)
        for peer, action in asked:
            match answers[action.speaker]:
                case Order() as order:
                    build = claims.build(order, self.settings.limits, self.settings.allow_network)
                    self._advance(peer, build)
                case Nothing(reason):
                    self._park(peer, action, targets[action.speaker], reason)
                case Dismissed() as dismissed:
                    self._advance(peer, dismissed)

    def _park(self, peer: Peer, claim: Claim, target_id: int, reason: str) -> None:
        """Answer later: when work comes, or when the slave has waited long enough."""
        now = self.clock()
        before = self.again.get(peer[0])
        if before is not None and before.until <= now:
            self._advance(peer, Nothing(reason))
            return
        until = before.until if before else now + self.settings.timing.patience
        self.turn.parked[peer[0]] = Parked(peer, claim, target_id, until)


def _sign(speaker: Speaker, health: Health) -> Sign:
    return Sign(
        speaker.slave,
        health.memory_free,
        health.disk_free,
        health.load,
        health.temperature,
        resources.unfit(health.disk_free, health.memory_free, health.temperature),
    )
