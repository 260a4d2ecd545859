"""The tracker: makes the database agree with PyPI.

Whatever tells of news only enters jobs of reading projects; a few threads read their pages; the
service's own thread brings the database in line with them, many in one transaction. Threads of
their own read the journal, and the list of all projects with the counts of downloads. A thread
that ends ends the service, and with it the process: what it was at is still in the database.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from queue import Empty, Queue

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from piwheels.database import tracking
from piwheels.database.connection import transaction
from piwheels.master import news, popularity
from piwheels.master.agreement import Agreed, Terms, agree
from piwheels.master.reading import Gate, Outcome, Read, Unread, read
from piwheels.master.service import POLL
from piwheels.model.errors import Unavailable
from piwheels.model.following import Mode, ProjectJob
from piwheels.pypi import Journal, NoJournal, PyPI, RateLimited
from piwheels.rules.following import LONGEST_DELAY, Rhythm
from piwheels.rules.popularity import BadCounts

log = logging.getLogger(__name__)

MOST_PROJECTS = 300  # in one transaction
MOST_VERSIONS = 5_000  # or so
AHEAD = 40  # jobs for each reader that are taken before it is done with others
LINGER = 0.25  # seconds that what was read waits for more: a transaction costs what many cost
LEASE = 120.0  # seconds a job is taken for: longer than a page takes with all repetitions
AFTER_TROUBLE = 600.0  # seconds until a list that could not be read is asked for again
PROGRESS_SECONDS = 60.0
WORTH_TELLING = 1_000  # jobs: fewer are done soon


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator wants; all times in seconds.

    readers: pages that are asked for at once. journal: between two looks into the journal.
    reread: after which each followed page is read again, come what may; poll: the same where
    there is no journal. poll_pause: between two such readings. compare: between two
    comparisons with PyPI's list. popularity: file or URL of download counts, '' for none.
    grace: for which files of deleted projects stay.
    """

    mode: Mode = field(default_factory=Mode)
    readers: int = 4
    journal: float = 5.0
    reread: float = 30 * 86_400.0
    poll: float = 3_600.0
    poll_pause: float = 1.0
    compare: float = 86_400.0
    popularity: str = ""
    grace: float = 86_400.0


class Tracker:
    """The service. *clock* gives monotonic seconds."""

    def __init__(
        self,
        engine: Engine,
        pypi: PyPI,
        journal: Journal,
        settings: Settings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.pypi = pypi
        self.journal = journal
        self.settings = settings or Settings()
        self.clock = clock
        self.gate = Gate(clock)
        self.jobs: Queue[ProjectJob] = Queue()
        self.outcomes: Queue[Outcome] = Queue()
        self.at_hand: list[Outcome] = []  # read, but not in the database yet
        self.due = clock()  # when what is at hand is to be in the database
        self.out = 0  # jobs that are with the readers
        self.taken: set[str] = set()  # names of jobs that are not done
        self.has_journal = True
        self.ended: list[BaseException] = []
        self.polled = self.told = clock()
        self.read_since = 0  # projects read since progress was told
        self.popularity_due = clock()

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        works = [self._read] * self.settings.readers + [self._follow_journal, self._survey]
        for work in works:
            # Daemons: one that waits for a slow PyPI must not hold up the end of the process.
            threading.Thread(target=self._until_the_end, args=(work,), daemon=True).start()
        try:
            while not is_stopping():
                beat()
                if self.ended:
                    raise self.ended[0]
                try:
                    is_busy = self.turn()
                except (Unavailable, OperationalError) as error:  # away, or in conflict
                    log.warning("%s; trying again", error)
                    is_busy = False
                if not is_busy:
                    self._await_news()
        finally:
            self.gate.end()
            self._give_back()

    def turn(self) -> bool:
        """Take jobs, and bring the database in line with what was read; whether anything was."""
        self._enter_polls()
        self._take_jobs()
        is_full = self._collect()
        if self.at_hand and (is_full or self.out == 0 or self.clock() >= self.due):
            self._agree()
            return True
        return False

    # The service's own thread

    def _take_jobs(self) -> None:
        most = self.settings.readers * AHEAD
        if self.out > most // 2:
            return
        with transaction(self.engine) as connection:
            jobs = tracking.take(connection, most - self.out, LEASE, 2 * LONGEST_DELAY)
        self.taken.update(job.name for job in jobs)
        for job in jobs:
            self.jobs.put(job)
        self.out += len(jobs)

    def _collect(self) -> bool:
        """Take what was read; whether it is as much as one transaction should have."""
        versions = sum(map(_size, self.at_hand))
        while len(self.at_hand) < MOST_PROJECTS and versions < MOST_VERSIONS:
            try:
                outcome = self.outcomes.get_nowait()
            except Empty:
                return False
            self._keep(outcome)
            versions += _size(outcome)
        return True

    def _keep(self, outcome: Outcome) -> None:
        if not self.at_hand:
            self.due = self.clock() + LINGER
        self.out -= 1
        self.at_hand.append(outcome)

    def _await_news(self) -> None:
        """Wait for a reader, or for a while."""
        with suppress(Empty):
            left = max(0.01, self.due - self.clock()) if self.at_hand else POLL
            self._keep(self.outcomes.get(timeout=left))

    def _agree(self) -> None:
        terms = self._terms()
        try:
            agreed = agree(self.engine, terms, self.at_hand)
        except OperationalError:
            raise
        except DBAPIError as error:  # one that cannot be stored must not stop the others
            log.warning("%s; one by one", error)
            for outcome in self.at_hand:
                self._agree_alone(terms, outcome)
        else:
            self._tell(agreed)
        self.taken.difference_update(outcome.job.name for outcome in self.at_hand)
        self.at_hand = []

    def _agree_alone(self, terms: Terms, outcome: Outcome) -> None:
        try:
            agree(self.engine, terms, [outcome])
        except OperationalError:
            raise
        except DBAPIError as error:
            log.exception("cannot store the project %s", outcome.job.name)
            agree(self.engine, terms, [Unread(outcome.job, str(error))])

    def _terms(self) -> Terms:
        period = self.settings.reread if self.has_journal else self.settings.poll
        return Terms(self.settings.mode, Rhythm(timedelta(seconds=period)), self.settings.grace)

    def _enter_polls(self) -> None:
        """One page for each pause that went by."""
        due = int((self.clock() - self.polled) / self.settings.poll_pause)
        if due >= 1:
            self.polled = self.clock()
            news.enter_polls(self.engine, due)

    def _tell(self, agreed: Agreed) -> None:
        for name in agreed.withdrawn:
            log.warning("%s is deleted or in quarantine on PyPI: neither built nor shown", name)
        self.read_since += agreed.projects
        seconds = self.clock() - self.told
        if seconds < PROGRESS_SECONDS:
            return
        with transaction(self.engine) as connection:
            left = tracking.left(connection)
        if left >= WORTH_TELLING:
            rate = self.read_since / seconds
            log.info("%.1f projects a second, %d left: %.1f hours", rate, left, left / rate / 3600)
        self.told, self.read_since = self.clock(), 0

    def _give_back(self) -> None:
        """Let the next process have at once what is not in the database yet."""
        with suppress(Unavailable, DBAPIError), transaction(self.engine) as connection:
            tracking.give_back(connection, self.taken)

    # The other threads

    def _until_the_end(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            log.exception("a thread of the tracker ended")
            self.ended.append(error)

    def _read(self) -> None:
        while self.gate.wait():
            try:
                job = self.jobs.get(timeout=POLL)
            except Empty:
                continue
            outcome = read(self.pypi, self.gate, job)
            if outcome is not None:
                self.outcomes.put(outcome)

    def _follow_journal(self) -> None:
        while self.gate.wait():
            try:
                is_more = self.look_into_journal()
            except RateLimited as error:
                log.warning("%s", error)
                self.gate.close(error.seconds)
                continue
            except (Unavailable, DBAPIError) as error:
                log.warning("%s; trying again", error)
                is_more = False
            pause = self.settings.journal if self.has_journal else self.settings.compare
            if not self.gate.sleep(1.0 if is_more else pause):
                return

    def look_into_journal(self) -> bool:
        """Enter what it names; whether there may be more. Raise Unavailable."""
        try:
            found = news.read_journal(self.engine, self.journal, self.settings.mode)
        except NoJournal as error:
            if self.has_journal:
                log.warning("%s: pages are read again every %.0f s", error, self.settings.poll)
            self.has_journal = False
            with transaction(self.engine) as connection:
                tracking.note_no_journal(connection, self.settings.poll)
            return False
        self.has_journal = True
        return found > 0

    def _survey(self) -> None:
        while self.gate.wait():
            pause = POLL
            try:
                self._count()
                if self.settings.mode.needed:
                    news.follow_needed(self.engine)
                if news.is_journal_begun(self.engine):
                    pause = 10 * POLL
                    news.compare_list(
                        self.engine,
                        self.pypi,
                        self.settings.mode,
                        self.settings.compare,
                        self.gate.wait,
                    )
            except RateLimited as error:
                log.warning("%s", error)
                self.gate.close(error.seconds)
                pause = AFTER_TROUBLE
            except (Unavailable, DBAPIError) as error:
                log.warning("%s; trying again", error)
                pause = AFTER_TROUBLE
            if not self.gate.sleep(pause):
                return

    def _count(self) -> None:
        """Read popularity, if that is due; where it cannot be read, nothing else waits for it."""
        settings = self.settings
        if not settings.popularity or self.clock() < self.popularity_due:
            return
        try:
            popularity.count(self.engine, settings.popularity, settings.mode, settings.compare)
        except (BadCounts, Unavailable) as error:
            log.warning("popularity from %s: %s", settings.popularity, error)
            self.popularity_due = self.clock() + AFTER_TROUBLE


def _size(outcome: Outcome) -> int:
    return len(outcome.page.versions) if isinstance(outcome, Read) else 0
