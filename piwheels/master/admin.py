"""The admin service: does what administrators' tools ask.

One thread owns the socket; a few workers ask PyPI and the database, so that a slow PyPI
holds up nobody else. All that a request changes is changed in one transaction. What is done
for each request is in the modules adding, reasons and targets.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Thread
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from piwheels.database.connection import transaction
from piwheels.master.adding import LONGEST_LINE, Adding
from piwheels.master.reasons import look, why
from piwheels.master.targets import add_target, change_targets, list_targets, skip_on_target
from piwheels.model.errors import BadMessage, PiwheelsError, Unavailable
from piwheels.model.projects import ProjectPage
from piwheels.protocol.admin import (
    FROM_ADMIN,
    FROM_TOOL,
    Add,
    AddTarget,
    ChangeTargets,
    Failed,
    ListTargets,
    Look,
    SkipOnTarget,
    Why,
)
from piwheels.pypi import PyPI
from piwheels.transport import Listener, Mailbox, Waiter
from piwheels.transport.sockets import Peer

WORKERS = 4
MOST_WAITING = 200  # requests; more are turned away at once
TRIES = 3  # of a transaction that met another one
BEAT_SECONDS = 1.0

logger = logging.getLogger(__name__)


# What is asked of the database alone. Each raises PiwheelsError, and then changes nothing.
HANDLERS: dict[type, Callable[[Connection, Any], object]] = {
    Look: look,
    Why: why,
    ListTargets: list_targets,
    AddTarget: add_target,
    ChangeTargets: change_targets,
    SkipOnTarget: skip_on_target,
}


class DatabaseAway(PiwheelsError):
    """The database cannot be reached now. The service goes on, and so may the asker later."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and who waits for the answer."""

    peer: Peer
    request: object


class Admin:
    """Answers administrators' tools on *address*, which is final once this is made."""

    def __init__(self, engine: Engine, pypi: PyPI, address: str, workers: int = WORKERS) -> None:
        self.engine = engine
        self.pypi = pypi
        self.listener = Listener(address)
        self.address = self.listener.address
        self.workers = workers
        self.asked: Queue[_Asked] = Queue(MOST_WAITING)
        self.answers: Queue[tuple[Peer, bytes]] = Queue()
        self.mailbox = Mailbox()

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        for _ in range(self.workers):
            # Daemons: one that waits for a slow PyPI must not hold up the end of the process.
            Thread(target=self._work, daemon=True).start()
        waiter = Waiter(self.listener, self.mailbox)
        while not is_stopping():
            beat()
            waiter.wait(BEAT_SECONDS)
            self.mailbox.drain()
            self._send_answers()
            self._take_requests()
        self.listener.close(linger_ms=1000)

    def _take_requests(self) -> None:
        while (heard := self.listener.hear()) is not None:
            peer, frame = heard
            try:
                self.asked.put_nowait(_Asked(peer, FROM_TOOL.decode(frame)))
            except BadMessage as error:
                logger.warning("dropped a message that is none: %s", error)
            except Full:
                busy = Failed("the admin service has too much to do", "try again in a minute")
                self.listener.answer(peer, FROM_ADMIN.encode(busy))

    def _send_answers(self) -> None:
        while True:
            try:
                peer, frame = self.answers.get_nowait()
            except Empty:
                return
            self.listener.answer(peer, frame)

    def _work(self) -> None:
        while True:
            asked = self.asked.get()
            self.answers.put((asked.peer, FROM_ADMIN.encode(self.answer(asked.request))))
            self.mailbox.wake()

    def answer(self, request: object) -> object:
        """Do what is asked, and say how it went; never raises."""
        try:
            answer = self._do(request)
        except DatabaseAway as error:
            logger.warning("%s", error)
            return Failed("the database is away", "try again in a minute")
        except PiwheelsError as error:
            return _failed(error)
        except Exception:  # one bad package must not end the service
            logger.exception("cannot do %s", request)
            return Failed("the admin service could not do this", "see the log of piw-master")
        if hasattr(request, "is_dry_run"):  # else nothing could change
            logger.info("%s: %s", request, answer)
        return answer

    def _do(self, request: object) -> object:
        """Raise PiwheelsError."""
        if isinstance(request, Add):
            page = self._page(request)
            return self._in_transaction(
                request, lambda connection: Adding(connection, request, page).run()
            )
        handle = HANDLERS[type(request)]
        return self._in_transaction(request, lambda connection: handle(connection, request))

    def _in_transaction(self, request: object, work: Callable[[Connection], object]) -> object:
        """Do *work*; again if it met another transaction. Raise PiwheelsError."""
        for _ in range(TRIES - 1):
            with suppress(OperationalError):
                return self._once(request, work)
        return self._once(request, work)

    def _once(self, request: object, work: Callable[[Connection], object]) -> object:
        try:
            with transaction(self.engine) as connection:
                answer = work(connection)
                if getattr(request, "is_dry_run", False):
                    connection.rollback()
                return answer
        except Unavailable as error:
            raise DatabaseAway(str(error)) from error

    def _page(self, request: Add) -> ProjectPage:
        """What PyPI says; a whole package may be skipped whatever PyPI says of it."""
        if request.skip and not request.specifier:
            return ProjectPage(request.package, request.package)
        return self.pypi.project(request.package)


def _failed(error: PiwheelsError) -> Failed:
    """Part the reason from the next step: our errors' text has the form "reason: step"."""
    reason, _, hint = str(error).rpartition(": ")
    if not reason:
        return Failed(hint[:LONGEST_LINE])
    return Failed(reason[:LONGEST_LINE], hint[:LONGEST_LINE])
