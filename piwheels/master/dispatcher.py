"""The dispatcher: speaks with slaves; grants, extends and ends leases; commits builds.

Each turn takes what has arrived, at most BATCH messages, through one transaction, a few
statements for all of them together, and answers when that is committed: what a slave is told
is true whatever happens next. A message that breaks its turn is tried again alone, so that it
spoils nobody else's.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from piwheels.database.connection import WakeUps
from piwheels.master import turn
from piwheels.master.turn import Item, Parked, Settings, Turn
from piwheels.model.errors import BadMessage, Unavailable
from piwheels.protocol.slave import FROM_SLAVE, TO_SLAVE
from piwheels.rules.slave_session import Asking, Session
from piwheels.transport import Listener, Waiter
from piwheels.transport.sockets import Peer

log = logging.getLogger(__name__)

TICK = 1.0  # seconds
BATCH = 256  # messages in one transaction
MOST_SESSIONS = 20_000


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
            waiter.wait(TICK)
            beat()
            again = self._worth_another_look(wake_ups.drain())

    def _wait_for_database(self, error: Unavailable, beat: Callable[[], None]) -> None:
        """Slaves repeat what they said meanwhile: it is dropped rather than kept."""
        log.warning("%s; trying again", error)
        until = self.clock() + 2.0
        while (left := until - self.clock()) > 0:
            Waiter(self.listener).wait(left)
            while self.listener.hear():
                pass
            beat()

    def _hear(self) -> list[Item]:
        """What has arrived, of each peer only the newest: it waits for no older answer."""
        heard: dict[bytes, Item] = {}
        for _ in range(BATCH):
            if not (arrived := self.listener.hear()):
                break
            peer, frame = arrived
            try:
                heard[peer[0]] = peer, FROM_SLAVE.decode(frame)
            except BadMessage as error:
                self._drop(peer, error)
        return list(heard.values())

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
        done: Turn = turn.take(
            self.engine, items, self.sessions, self.settings, self.clock, self.wall_clock
        )
        for identity, session in done.sessions.items():
            self.sessions[identity] = session
            self.sessions.move_to_end(identity)
            self.parked.pop(identity, None)
        self.parked |= done.parked
        for peer, error in done.dropped:
            self._drop(peer, error)
        for peer, message in done.replies:
            self.listener.answer(peer, TO_SLAVE.encode(message))
        while len(self.sessions) > MOST_SESSIONS:
            self.sessions.popitem(last=False)  # it says HELLO again, should it come back

    def _drop(self, peer: Peer, error: Exception) -> None:
        log.warning("dropped a peer: %s", error)
        self.sessions.pop(peer[0], None)
        self.parked.pop(peer[0], None)
