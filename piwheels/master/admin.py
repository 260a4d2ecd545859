"""The admin service: does what administrators' tools ask.

One thread owns the socket; a few workers ask PyPI and the database, so that a slow PyPI
holds up nobody else. All that a request changes is changed in one transaction.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from queue import Empty, Full, Queue
from threading import Thread

from sqlalchemy import Connection, Engine

from piwheels.database import pages, versions
from piwheels.database.connection import transaction
from piwheels.master.queue import refresh, standing
from piwheels.master.standings import project
from piwheels.model.errors import BadMessage, PiwheelsError, Unavailable
from piwheels.model.projects import ProjectPage, ProjectVersion
from piwheels.model.queue import State
from piwheels.protocol.admin import (
    FROM_ADMIN,
    FROM_TOOL,
    Add,
    Added,
    Failed,
    Look,
    Standings,
    TargetStanding,
)
from piwheels.pypi import PyPI
from piwheels.rules.project_diff import admitted, choose, diff, suits_any
from piwheels.transport import Listener, Mailbox, Waiter
from piwheels.transport.sockets import Peer

MANUAL = 0  # the lane of what people ask for
WORKERS = 4
MOST_WAITING = 200  # requests; more are turned away at once
BEAT_SECONDS = 1.0
LONGEST_LINE = 1_000  # characters: protocol.fields.Line

logger = logging.getLogger(__name__)


class DatabaseAway(PiwheelsError):
    """The database cannot be reached now. The service goes on, and so may the asker later."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and who waits for the answer."""

    peer: Peer
    request: Add | Look


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

    def answer(self, request: Add | Look) -> Added | Failed | Standings:
        """Do what is asked, and say how it went; never raises."""
        try:
            if isinstance(request, Look):
                return self.look(request)
            added = self.add(request)
        except DatabaseAway as error:
            logger.warning("%s", error)
            return Failed("the database is away", "try again in a minute")
        except PiwheelsError as error:
            return _failed(error)
        except Exception:  # one bad package must not end the service
            logger.exception("cannot do %s", request)
            return Failed("the admin service could not do this", "see the log of piw-master")
        logger.info("%s: %s", request, "done" if added.is_news else "nothing new")
        return added

    def add(self, request: Add) -> Added:
        """Make a version wanted, or skip it or its package. Raise PiwheelsError."""
        page = self._page(request)
        try:
            with transaction(self.engine) as connection:
                added = _Adding(connection, request, page).run()
                if request.is_dry_run:
                    connection.rollback()
                return added
        except Unavailable as error:
            raise DatabaseAway(str(error)) from error

    def look(self, request: Look) -> Standings:
        """How a version stands on each target. Raise PiwheelsError."""
        try:
            with transaction(self.engine) as connection:
                package = versions.get_package(connection, request.package)
                contents = package and pages.contents(connection, package.package_id)
                releases = project(connection, contents).releases if contents else ()
        except Unavailable as error:
            raise DatabaseAway(str(error)) from error
        return Standings(
            tuple(
                TargetStanding(**asdict(standing))
                for release in releases
                if release.version == request.version
                for standing in release.standings
            )
        )

    def _page(self, request: Add) -> ProjectPage:
        """What PyPI says; a whole package may be skipped whatever PyPI says of it."""
        if request.skip and not request.specifier:
            return ProjectPage(request.package, request.package)
        return self.pypi.project(request.package)


class _Adding:
    """One request, within one transaction. changed: versions, by id."""

    def __init__(self, connection: Connection, request: Add, page: ProjectPage) -> None:
        self.connection = connection
        self.request = request
        self.page = page
        self.is_news = False
        self.changed: set[int] = set()
        self.warnings: list[str] = []

    def run(self) -> Added:
        """Do it. Raise PiwheelsError; nothing has changed then, once it is rolled back."""
        self._enter()
        before = versions.get_package(self.connection, self.page.package)
        self.package_id = before.package_id
        self._describe(before.summary)
        concerns_version = bool(self.request.specifier) or not self.request.skip
        version = self._add_version() if concerns_version else ""
        if self.request.skip is not None and not self.request.specifier:
            self._skip_package(before.skip, self.request.skip)
        refresh(self.connection, self.changed)
        if self.is_news:
            versions.request_page(self.connection, self.package_id, "piw-add")
        if version:
            self._warn_of_skips(version)
        return Added(self.page.package, version, self.is_news, _cut(self.warnings))

    def _enter(self) -> None:
        self.is_news = versions.enter(self.connection, self.page)
        if self.is_news and not self.page.versions:
            self.warnings.append(f"{self.page.package} is new here, and PyPI was not asked for it")

    def _describe(self, summary: str) -> None:
        request = self.request
        if request.description not in ("", summary):
            self.is_news = True
            versions.describe(self.connection, self.package_id, request.description)
        if request.aliases:
            news = versions.add_names(self.connection, self.package_id, request.aliases)
            self.is_news |= bool(news)

    def _add_version(self) -> str:
        """Write down what PyPI says, and want or skip the version that it comes to."""
        pythons = versions.active_pythons(self.connection)
        chosen = choose(self.page, self.request.specifier, pythons)
        self._warn_of_choice(chosen, pythons)
        changes = diff(versions.known(self.connection, self.page.package), self.page)
        self._note(versions.apply(self.connection, self.page, changes))
        known = versions.get_version(self.connection, self.page.package, chosen.version)
        if self.request.skip is not None and self.request.specifier:
            self._skip_version(known, self.request.skip)
        if not self.request.skip and (known.lane is None or known.lane > MANUAL):
            versions.want(self.connection, self.page.package, chosen.version, MANUAL)
            self._note({known.version_id})
        elif not self.request.skip and self._has_failed(known.version_id):
            versions.ask_again(self.connection, known.version_id)
            self._note({known.version_id})
        return chosen.version

    def _has_failed(self, version_id: int) -> bool:
        """Whether some target gave up on it, or tries again only later."""
        verdicts = standing(self.connection, [version_id])[version_id].values()
        return any(
            verdict.state in (State.FAILED, State.HELD) or verdict.attempts > 0
            for verdict in verdicts
        )

    def _skip_version(self, version: versions.Version, reason: str) -> None:
        if version.skip != reason:
            versions.skip_version(self.connection, version.version_id, reason)
            self._note({version.version_id})

    def _skip_package(self, old: str, reason: str) -> None:
        if old != reason:
            self.is_news = True
            self._note(versions.skip_package(self.connection, self.package_id, reason))

    def _note(self, changed: set[int]) -> None:
        self.changed |= changed
        self.is_news |= bool(changed)

    def _warn_of_choice(self, chosen: ProjectVersion, pythons: set[str]) -> None:
        """Say what may surprise: a newer version passed over, a version nobody can build."""
        newest = admitted(self.page, self.request.specifier)[0]
        if newest != chosen:
            lack = f"no target has a Python {newest.requires_python}"
            lack = lack if newest.sdist else "PyPI has only wheels of it"
            self.warnings.append(f"{newest.version} is newer, but {lack}")
        if not pythons:
            self.warnings.append("no target is active: it will wait for the first slave")
        elif not suits_any(chosen, pythons):
            self.warnings.append(f"it needs a Python {chosen.requires_python}: no target has one")

    def _warn_of_skips(self, version: str) -> None:
        """Say so if it was asked for, but will not be built."""
        package = self.page.package
        reason = versions.get_package(self.connection, package).skip
        if reason and not self.request.skip:
            self.warnings.append(
                f"{package} is skipped: {reason}; to build it, say piw-add {package} --unskip"
            )
        reason = versions.get_version(self.connection, package, version).skip
        if reason and not self.request.skip:
            self.warnings.append(
                f"{package} {version} is skipped: {reason}; to build it, "
                f"say piw-add {package} {version} --unskip"
            )


def _cut(lines: list[str]) -> tuple[str, ...]:
    return tuple(line[:LONGEST_LINE] for line in lines)


def _failed(error: PiwheelsError) -> Failed:
    """Part the reason from the next step: our errors' text has the form "reason: step"."""
    reason, _, hint = str(error).rpartition(": ")
    if not reason:
        return Failed(hint[:LONGEST_LINE])
    return Failed(reason[:LONGEST_LINE], hint[:LONGEST_LINE])
