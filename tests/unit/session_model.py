"""A farm in memory: real conversations between machines and a ledger, over a network that may
do anything.

What decides is real: piwheels.slave.session on every machine, piwheels.rules.slave_session in
every dispatcher, frames made and read by the codec. What they stand on is modelled: the ledger
keeps the promises of the dispatcher's tables, the network those of transport.Caller, a machine
those of the slave's daemon and spool.

Nothing here is random and time is an argument: whoever plays a history says what happens. The
model checks that what a slave is told is true when it is told, and that a slave drops a result
only after it was told to.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from itertools import count
from typing import Any

from piwheels.model.builds import FailureClass, Outcome, Phase
from piwheels.protocol.slave import (
    FROM_SLAVE,
    LOG_NAME,
    PROTOCOL,
    TO_SLAVE,
    Ack,
    Build,
    Built,
    Busy,
    Bye,
    Cancel,
    Continue,
    DeliveredFile,
    Done,
    Hello,
    Idle,
    OfferedTarget,
    OrderedLimits,
    OrderedSdist,
    Resources,
    Send,
    Sent,
)
from piwheels.rules import slave_session as master
from piwheels.rules.slave_session import Speaker, Timing
from piwheels.slave import session as slave

TIMING = Timing(heartbeat=3.0, silence=4.0, lease=12.0, patience=2.0)  # short: rounds are seconds
CLOCK_SLACK = 5.0  # seconds that an expiry may lie too far ahead, before it is mended
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TARGET = OfferedTarget("cp311-linux_x86_64", "CPython 3.11", "3.11.2", ("py3-none-any",))
SDIST = OrderedSdist("six-1.0.tar.gz", "http://localhost/six-1.0.tar.gz", "0" * 64, 1)
LIMITS = OrderedLimits(1.0, 1.0, 0, 0, 0, 0)
LOG = DeliveredFile(LOG_NAME, 1, "0" * 64)
WHEEL = DeliveredFile("six-1.0-py3-none-any.whl", 1, "1" * 64)
SUPERSEDED = "another process speaks as this slave"
SENT_AWAY = "an operator sent this slave away"

heard_from_slave, heard_from_master = cache(FROM_SLAVE.decode), cache(TO_SLAVE.decode)


def success(lease: bytes) -> Built:
    """A build that has a log and a wheel."""
    return Built(lease, Outcome.SUCCESS, 1.0, LOG, (WHEEL,))


def failure(lease: bytes, log: DeliveredFile | None = LOG) -> Built:
    """A build that will be tried again."""
    kind = FailureClass.FETCH_FAILED
    return Built(lease, Outcome.FAILURE, 1.0, log, kind=kind, cause="the sdist is away")


def names_of(built: Built) -> tuple[str, ...]:
    """The files to deliver."""
    return tuple(file.name for file in (built.log, *built.wheels) if file is not None)


class Ends(StrEnum):
    """What comes to its end by itself."""

    NOTHING = "nothing"
    BUILDS = "builds"
    ALL = "all"


# The ledger.


@dataclass(slots=True)
class Lease:
    """expires: wall clock. report, placed: of the build's end, and which of its files came."""

    version: int
    slave: int
    expires: float
    report: Built | None = None
    placed: set[str] = field(default_factory=set)

    def missing(self) -> tuple[str, ...]:
        """The files that are still to come."""
        assert self.report is not None
        return tuple(name for name in names_of(self.report) if name not in self.placed)


@dataclass(frozen=True, slots=True)
class Record:
    """A build that ended. kind: success, failure or lost."""

    version: int
    slave: int
    kind: str


@dataclass(slots=True)
class Known:
    """A slave as the ledger knows it."""

    number: int
    run: bytes = b""
    wish: str = "work"
    past: set[bytes] = field(default_factory=set)


class Ledger:
    """What the dispatcher's tables promise: see piwheels.master and sql/leases.sql.

    Attempts are not counted and retries do not wait: tests/unit/test_queue_rule.py has those.
    """

    def __init__(self) -> None:
        self.queue: set[int] = set()
        self.skipped: set[int] = set()
        self.cancelled: set[bytes] = set()
        self.leases: dict[bytes, Lease] = {}
        self.records: dict[bytes, Record] = {}
        self.slaves: dict[str, Known] = {}
        self.tokens = count(1)

    # What dispatchers ask.

    def register(self, hello: Hello, wall: float) -> master.Registered:
        """Another process begins without what the one before it left; the same one may not
        have heard yet of a lease that was granted to it.
        """
        known = self.slaves.setdefault(hello.label, Known(len(self.slaves) + 1))
        if hello.run in known.past:
            return master.Registered(master.Speaker(0, hello.run), refusal="another took its name")
        if known.run != hello.run:
            known.past.add(known.run)
            known.run = hello.run
            known.wish = "work" if known.wish == "leave" else known.wish
            for token in self.held(known.number):
                if token != hello.lease:
                    self.give_up(token)
        speaker = Speaker(known.number, hello.run)
        stands = hello.lease is not None and self.stands(speaker, hello.lease, wall)
        return master.Registered(speaker, hello.lease if stands else None)

    def claim(
        self, speaker: Speaker, wall: float
    ) -> Build | master.Dismissed | master.Nothing | None:
        """None: nothing waits, so the question does."""
        known = self.slave(speaker.slave)
        if known.run != speaker.run:
            return master.Dismissed(SUPERSEDED)
        if known.wish == "leave":
            self.release(speaker)
            return master.Dismissed(SENT_AWAY)
        for token, lease in self.leases.items():
            if lease.slave == speaker.slave and lease.report is None:
                return self.order(token)
        if known.wish == "rest":
            return master.Nothing("paused by an operator")
        if not self.queue:
            return None
        token = next(self.tokens).to_bytes(16, "big")
        version = min(self.queue)
        self.queue.discard(version)
        self.leases[token] = Lease(version, speaker.slave, wall + TIMING.lease)
        return self.order(token)

    def extend(self, speaker: Speaker, token: bytes, wall: float) -> master.Extended | master.Void:
        """Only the newest process of a slave keeps a lease alive."""
        is_newest = self.slave(speaker.slave).run == speaker.run
        if is_newest and self.stands(speaker, token, wall):
            return master.Extended()
        return master.Void("this build was given to another slave, or is not wanted any more")

    def conclude(
        self, speaker: Speaker, token: bytes, built: Built | None, wall: float
    ) -> master.Missing | master.Unreported | master.Committed | master.Void:
        """A result is taken from any process of the slave: the token says whose it is."""
        if self.is_on_record(token):
            return master.Committed()
        if not self.stands(speaker, token, wall):
            return master.Void("this build was given to another slave, or is not wanted any more")
        lease = self.leases[token]
        lease.report = lease.report or built
        if lease.report is None:
            return master.Unreported()
        if missing := lease.missing():
            return master.Missing(missing)
        del self.leases[token]
        self.records[token] = Record(lease.version, lease.slave, lease.report.outcome.value)
        self.judge(lease.version)
        return master.Committed()

    def release(self, speaker: Speaker) -> None:
        """The process that speaks is about to end; one that was followed holds nothing."""
        if self.slave(speaker.slave).run != speaker.run:
            return
        for token in self.held(speaker.slave):
            self.end(token)

    # What others do.

    def want(self, version: int) -> None:
        """Let a version wait."""
        self.judge(version)

    def place(self, token: bytes, name: str) -> bool:
        """The receiver has the whole file; whether a lease asks for it."""
        lease = self.leases.get(token)
        if lease is None or lease.report is None:
            return False
        lease.placed.add(name)
        return True

    def expire(self, wall: float) -> None:
        """The keeper's turn. An expiry too far ahead comes from a clock that stepped back."""
        for token, lease in list(self.leases.items()):
            if lease.expires > wall + TIMING.lease + CLOCK_SLACK:
                lease.expires = wall + TIMING.lease
            if lease.expires < wall:
                self.give_up(token)

    def cancel(self, version: int) -> None:
        """End a build in its middle; a result that was reported is not thrown away."""
        for token, lease in list(self.leases.items()):
            if lease.version == version and lease.report is None:
                self.cancelled.add(token)
                self.end(token)

    def skip(self, version: int) -> None:
        """Want it no more."""
        self.skipped.add(version)
        self.queue.discard(version)
        self.cancel(version)

    # What they have in common.

    def slave(self, number: int) -> Known:
        """A slave by its number."""
        return next(known for known in self.slaves.values() if known.number == number)

    def held(self, number: int) -> list[bytes]:
        """The leases of a slave."""
        return [token for token, lease in self.leases.items() if lease.slave == number]

    def stands(self, speaker: Speaker, token: bytes, wall: float) -> bool:
        """Whether a lease of this slave stands; if so it is extended. One that was given up
        stands again while its version waits.
        """
        record = self.records.get(token)
        if self.can_revive(token, speaker.slave):
            assert record is not None
            del self.records[token]
            self.queue.discard(record.version)
            self.leases[token] = Lease(record.version, record.slave, 0.0)
        lease = self.leases.get(token)
        if lease is None or lease.slave != speaker.slave:
            return False
        lease.expires = wall + TIMING.lease
        return True

    def can_revive(self, token: bytes, number: int) -> bool:
        """Whether this slave was given up under this lease, and nobody took its place."""
        record = self.records.get(token)
        return (
            record is not None
            and record.kind == "lost"
            and record.slave == number
            and record.version in self.queue
        )

    def is_on_record(self, token: bytes) -> bool:
        """Whether the build was committed."""
        return token in self.records and self.records[token].kind != "lost"

    def is_done(self, version: int) -> bool:
        """Whether a build of it succeeded."""
        return self.successes(version) > 0

    def successes(self, version: int) -> int:
        """How many there are; more than one is a disaster."""
        return sum(r.version == version and r.kind == "success" for r in self.records.values())

    def is_settled(self, version: int) -> bool:
        """Whether nothing more is to be done for it."""
        return self.is_done(version) or version in self.skipped

    def give_up(self, token: bytes) -> None:
        lease = self.leases.pop(token)
        self.records[token] = Record(lease.version, lease.slave, "lost")
        self.judge(lease.version)

    def end(self, token: bytes) -> None:
        self.judge(self.leases.pop(token).version)

    def judge(self, version: int) -> None:
        is_leased = any(lease.version == version for lease in self.leases.values())
        if not is_leased and not self.is_settled(version):
            self.queue.add(version)

    def order(self, token: bytes) -> Build:
        version = self.leases[token].version
        return Build(token, version, f"package-{version}", "1.0", SDIST, LIMITS)


# The network.


def in_words(message: object) -> str:
    """What a history needs of a message."""
    lease = getattr(message, "lease", None)
    return type(message).__name__.upper() + (f" of lease {int.from_bytes(lease)}" if lease else "")


@dataclass(frozen=True, slots=True)
class Question:
    """A frame on its way to dispatcher *to*. connection, number: to whom the answer goes."""

    to: int
    connection: int
    number: int
    frame: bytes

    def __repr__(self) -> str:
        return f"{in_words(heard_from_slave(self.frame))} from connection {self.connection}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A frame on its way back."""

    connection: int
    number: int
    frame: bytes

    def __repr__(self) -> str:
        return f"{in_words(heard_from_master(self.frame))} to connection {self.connection}"


# The dispatcher, around its rules.


@dataclass(frozen=True, slots=True)
class Parked:
    """An IDLE without an answer. until: monotonic."""

    question: Question
    claim: master.Claim
    until: float


class Dispatcher:
    """Performs what the rules decide. Its memory ends with it."""

    def __init__(self, farm: "Farm") -> None:
        self.farm = farm
        self.ledger = farm.ledger
        self.sessions: dict[int, master.Session] = {}
        self.parked: dict[int, Parked] = {}

    def hear(self, question: Question) -> None:
        """Take one message."""
        self.parked.pop(question.connection, None)
        self._on_event(question, heard_from_slave(question.frame))

    def look_again(self) -> None:
        """The queue grew: look once more for those who wait."""
        for parked in list(self.parked.values()):
            if answer := self.ledger.claim(parked.claim.speaker, self.farm.wall):
                del self.parked[parked.question.connection]
                self._on_event(parked.question, answer)

    def tick(self) -> None:
        """Answer those who waited long enough."""
        self.look_again()
        for parked in list(self.parked.values()):
            if parked.until <= self.farm.now:
                del self.parked[parked.question.connection]
                self._on_event(parked.question, master.Nothing("nothing waits"))

    def _on_event(self, question: Question, event: object) -> None:
        heard: object | None = event
        while heard is not None:
            session = self.sessions.get(question.connection, master.Stranger())
            session, actions = master.step(session, heard, TIMING)
            self.sessions[question.connection] = session
            heard = None
            for action in actions:
                heard = self._perform(question, action)

    def _perform(self, question: Question, action: master.Action) -> object | None:
        ledger, wall = self.ledger, self.farm.wall
        match action:
            case master.Register(hello):
                return ledger.register(hello, wall)
            case master.Claim(speaker):
                answer = ledger.claim(speaker, wall)
                if answer is None:
                    until = self.farm.now + TIMING.patience
                    self.parked[question.connection] = Parked(question, action, until)
                return answer
            case master.Extend(speaker, busy):
                return ledger.extend(speaker, busy.lease, wall)
            case master.Conclude(speaker, token, built):
                return ledger.conclude(speaker, token, built, wall)
            case master.Release(speaker):
                ledger.release(speaker)
            case master.Reply(message):
                self._answer(question, message)
        return None

    def _answer(self, question: Question, message: object) -> None:
        self.farm.check_that_it_is_true(heard_from_slave(question.frame), message)
        frame = TO_SLAVE.encode(message)
        self.farm.answers.append(Answer(question.connection, question.number, frame))


# A machine, and the process of a slave that runs on it.


@dataclass(slots=True)
class Work:
    """What runs beside the conversation. names: of files, for a delivery."""

    lease: bytes
    names: tuple[str, ...] = ()
    is_cancelled: bool = False


class Process:
    """One run of a slave's daemon: the shell around its session."""

    def __init__(self, farm: "Farm", machine: "Machine", to: int) -> None:
        self.farm = farm
        self.machine = machine
        self.run = next(farm.runs).to_bytes(16, "big")
        self.connections: list[int] = []
        self.number = 0  # of the newest question
        self.is_waiting = False
        self.work: Work | None = None
        self.events: list[object] = []
        self.connect(to)
        built = next(iter(machine.spool.values()), None)
        lease = None if built is None else built.lease
        self._perform(slave.begin(farm.now, lease, built))

    def connect(self, to: int) -> None:
        """What is under way on an older connection may still arrive; its answer will not."""
        self.to = to
        self.connections.append(next(self.farm.connections))
        self.is_waiting = False

    def loop(self, answer: Answer | None = None) -> None:
        """One turn of the daemon's loop."""
        if answer is not None and self.is_waiting and answer.number == self.number:
            self.is_waiting = False
            self._on_event(heard_from_master(answer.frame))
        while self.events and self.is_there:
            self._on_event(self.events.pop(0))
        if self.is_there:
            self._on_event(slave.Tick())

    @property
    def is_there(self) -> bool:
        """Whether it has not left."""
        return self.machine.process is self or not hasattr(self, "session")

    def finish(self, built: Built | None) -> None:
        """The build ends; a result is on disk before anybody hears of it."""
        assert self.work is not None
        assert not self.work.names
        if self.work.is_cancelled:
            built = None
        if built is not None:
            self.machine.spool[built.lease] = built
        self.work = None
        self.events.append(slave.Finished(built))

    def end_delivery(self) -> None:
        """The receiver has spoken about every file, or the delivery was cancelled."""
        self.work = None
        self.events.append(slave.Delivered())

    def _on_event(self, event: object) -> None:
        self._perform(slave.step(self.session, event, self.farm.now))

    def _perform(self, step: slave.Step) -> None:
        self.session, actions = step
        for action in actions:
            self._act(action)

    def _act(self, action: slave.Action) -> None:
        match action:
            case slave.SayHello(lease):
                label, resources = self.machine.label, Resources()
                self._say(Hello(PROTOCOL, label, TARGET, resources, NOON, lease, self.run))
            case slave.SayIdle():
                self._say(Idle())
            case slave.SayBusy(lease):
                self._say(Busy(lease, Phase.BUILDING))
            case slave.Say(message):
                self._say(message)
            case slave.Start(build):
                self._start(Work(build.lease))
            case slave.Deliver(built, names):
                self._start(Work(built.lease, names))
            case slave.Abort():
                if self.work is not None:
                    self.work.is_cancelled = True
            case slave.Forget(lease):
                self.farm.check_that_it_may_go(self.machine, lease)
                self.machine.spool.pop(lease, None)
            case slave.Leave():
                self.machine.parting = action
                self.machine.stop()

    def _say(self, message: object) -> None:
        self.number += 1
        self.is_waiting = True
        frame = FROM_SLAVE.encode(message)
        question = Question(self.to, self.connections[-1], self.number, frame)
        self.farm.questions.append(question)

    def _start(self, work: Work) -> None:
        assert self.work is None, "one build or delivery at a time"
        self.work = work


@dataclass(slots=True, eq=False)
class Machine:
    """Where a slave runs, with its disk. spool: the results that are kept, by lease.

    bad: leases whose files cannot be read any more. parting: why its last process left;
    None if it did not leave but was killed, or never ran.
    """

    farm: "Farm"
    label: str
    spool: dict[bytes, Built] = field(default_factory=dict)
    bad: set[bytes] = field(default_factory=set)
    process: Process | None = None
    parting: slave.Leave | None = None
    to: int = 0
    has_run: bool = False

    def __str__(self) -> str:
        return f"{self.label} (machine {self.farm.machines.index(self)})"

    def start(self) -> None:
        """Run the slave."""
        assert self.process is None
        self.parting, self.has_run = None, True
        for lease in self.bad:
            self.spool.pop(lease, None)
        self.process = Process(self.farm, self, self.to)

    def has(self, lease: bytes) -> bool:
        """Whether a build or its result is here, and was not told to end."""
        work = None if self.process is None else self.process.work
        is_at_work = work is not None and work.lease == lease and not work.is_cancelled
        return is_at_work or (lease in self.spool and lease not in self.bad)

    def kill(self) -> None:
        """No word of goodbye."""
        self.parting = None
        self.stop()

    def stop(self) -> None:
        """End the process, here and now; only what is on disk and on its way remains."""
        self.process = None


class Farm:
    """All of it. now: seconds that never step back; wall: those of the master's clock."""

    def __init__(self, labels: tuple[str, ...], dispatchers: int = 2) -> None:
        self.now = 0.0
        self.wall_is_ahead = 1_000_000.0
        self.runs, self.connections = count(1), count(1)
        self.questions: list[Question] = []
        self.answers: list[Answer] = []
        self.told_to_drop: set[bytes] = set()
        self.ledger = Ledger()
        self.versions = 0
        self.dispatchers = [Dispatcher(self) for _ in range(dispatchers)]
        self.machines = [Machine(self, label) for label in labels]

    @property
    def wall(self) -> float:
        """The master's clock."""
        return self.now + self.wall_is_ahead

    @property
    def processes(self) -> list[Process]:
        """Those that run."""
        return [machine.process for machine in self.machines if machine.process]

    def want(self) -> int:
        """One more version waits; its number."""
        self.versions += 1
        self.ledger.want(self.versions)
        return self.versions

    # What may happen.

    def restart(self, dispatcher: int) -> None:
        """All it remembers is gone."""
        self.dispatchers[dispatcher] = Dispatcher(self)

    def pass_time(self, seconds: float) -> None:
        """Everybody looks at the clock, but the keeper."""
        self.now += seconds
        for process in self.processes:
            process.loop()
        for dispatcher in self.dispatchers:
            dispatcher.tick()

    def carry_question(self, question: Question) -> None:
        """It arrives."""
        self.dispatchers[question.to].hear(question)

    def carry_answer(self, answer: Answer) -> None:
        """It arrives, if the one who asked is still on that connection."""
        for process in self.processes:
            if process.connections[-1] == answer.connection:
                process.loop(answer)

    def carry_all(self, only: Process | None = None) -> None:
        """All that is on its way, or what *only* this one said and is told, arrives in order."""
        for question in self._take(self.questions, only):
            self.carry_question(question)
        for answer in self._take(self.answers, only):
            self.carry_answer(answer)

    def _take(self, frames: list[Any], only: Process | None) -> list[Any]:
        taken = [f for f in frames if only is None or f.connection == only.connections[-1]]
        frames[:] = [frame for frame in frames if frame not in taken]
        return taken

    def deliver(self, process: Process, most: int = 1_000) -> None:
        """The receiver takes *most* files of a delivery, unless they cannot be read."""
        work = process.work
        assert work is not None
        if not work.is_cancelled and work.lease not in process.machine.bad:
            for name in work.names[:most]:
                self.ledger.place(work.lease, name)

    # What must be true.

    def check_that_it_is_true(self, question: object, message: object) -> None:
        """Answer *message* to *question*, against the ledger."""
        ledger = self.ledger
        match question, message:
            case Busy(lease), Continue():
                assert ledger.leases[lease].expires == self.wall + TIMING.lease
            case Hello(), Ack(lease=bytes() as lease):
                assert ledger.leases[lease].expires == self.wall + TIMING.lease
            case Idle(), Build(lease):
                assert ledger.leases[lease].report is None
            case ((Built() | Sent()), Send(names)):
                assert ledger.leases[question.lease].missing() == names
            case ((Built() | Sent()), Done()):
                assert ledger.is_on_record(question.lease)
                self.told_to_drop.add(question.lease)
            case ((Busy() | Built() | Sent()), Cancel()):
                self._check_that_it_is_unwanted(question.lease)
            case Hello(lease=bytes() as lease), Ack():
                self._check_that_it_is_unwanted(lease)
            case _:
                assert not isinstance(message, Done | Cancel) or isinstance(question, Bye)

    def _check_that_it_is_unwanted(self, lease: bytes) -> None:
        """Nobody who still has it is told to drop it without need. Of two processes of one
        name, the older may be.
        """
        self.told_to_drop.add(lease)
        for machine in filter(lambda machine: machine.has(lease), self.machines):
            if lease in self.ledger.cancelled or self._has_twin(machine):
                continue
            assert lease not in self.ledger.leases, "it stands"
            assert lease in self.ledger.records, "somebody freed it"
            holder = self.ledger.records[lease].slave
            assert not self.ledger.can_revive(lease, holder), "nobody else has it yet"

    def _has_twin(self, machine: Machine) -> bool:
        """Whether a slave of the same name has run on another machine."""
        return any(
            each is not machine and each.label == machine.label and each.has_run
            for each in self.machines
        )

    def check_that_it_may_go(self, machine: Machine, lease: bytes) -> None:
        """A slave drops all it keeps of *lease*."""
        assert lease not in machine.spool or lease in self.told_to_drop, (
            "a result is dropped untold"
        )

    def check(self) -> None:
        """What must be true at any time."""
        ledger = self.ledger
        leased = [lease.version for lease in ledger.leases.values()]
        assert len(leased) == len(set(leased)), "two leases for one version"
        for version in range(1, self.versions + 1):
            assert ledger.successes(version) <= 1, "committed twice"
            places = [version in ledger.queue, version in leased, ledger.is_settled(version)]
            is_reported_and_skipped = version in ledger.skipped and version in leased
            assert sum(places) == 1 or is_reported_and_skipped, places
        builds = [p.work.lease for p in self.processes if p.work and not p.work.names]
        assert len(builds) == len(set(builds)), "two build under one lease"
        for machine in self.machines:
            self._check_parting(machine)

    def _check_parting(self, machine: Machine) -> None:
        """Nobody is sent away without a reason."""
        if machine.parting is not None and machine.parting.reason == SUPERSEDED:
            assert self._has_twin(machine), "sent away for a process that is not there"

    # Life without trouble.

    def live_on(self, seconds: int, ends: Ends = Ends.ALL) -> Iterator[None]:
        """Second by second. What is cancelled ends, and of the rest what *ends* says, well."""
        for _ in range(seconds):
            yield
            for process in self.processes:
                work = process.work
                if work is None or (ends is Ends.NOTHING and not work.is_cancelled):
                    continue
                if not work.names:
                    process.finish(success(work.lease))
                elif ends is not Ends.BUILDS or work.is_cancelled:
                    self.deliver(process)
                    process.end_delivery()
            self.pass_time(1.0)
            self.carry_all()
            self.ledger.expire(self.wall)
            self.check()

    def live_on_until_all_is_done(self, seconds: int = 120) -> None:
        """Raise AssertionError if something waits for ever."""
        for known in self.ledger.slaves.values():
            known.wish = "work"
        self._start_all()
        if not self.processes:
            self.machines.append(Machine(self, "pi-new"))
            self.machines[-1].start()
        for _ in self.live_on(seconds):
            self._start_all()
            if self.is_all_done() and self.is_all_idle():
                break
        assert self.is_all_done(), f"not built: {self.ledger}"
        assert self.is_all_idle(), [process.session for process in self.processes]
        self._check_that_everybody_gets_work(seconds)

    def _start_all(self) -> None:
        """As supervisors do: all that ran once, but those that were sent away."""
        for machine in self.machines:
            was_sent_away = machine.parting is not None and machine.parting.is_final
            if machine.process is None and machine.has_run and not was_sent_away:
                machine.start()

    def _check_that_everybody_gets_work(self, seconds: int) -> None:
        idle = self.processes
        for _ in idle:
            self.want()
        for _ in self.live_on(seconds, Ends.NOTHING):
            if all(isinstance(process.session, slave.Building) for process in idle):
                break
        waiting = [p.session for p in idle if not isinstance(p.session, slave.Building)]
        assert self.processes == idle, "somebody left"
        assert not waiting, f"no work for {waiting}"
        self._check_that_builds_outlive_dispatchers()
        for _ in self.live_on(seconds):
            if self.is_all_done():
                return
        assert self.is_all_done(), "a build has no end"

    def _check_that_builds_outlive_dispatchers(self) -> None:
        """Builds that take longer than a lease without a sign of life is good for."""
        before = list(self.ledger.leases)
        for number in range(len(self.dispatchers)):
            self.restart(number)
        for _ in self.live_on(round(2 * TIMING.lease), Ends.NOTHING):
            pass
        assert list(self.ledger.leases) == before, "a build was given up though nothing was wrong"

    def is_all_done(self) -> bool:
        """Whether no version waits for anything."""
        return all(self.ledger.is_settled(version + 1) for version in range(self.versions))

    def is_all_idle(self) -> bool:
        """Whether every slave that is there waits for work, has nothing, and is the only one
        of its name.
        """
        return all(
            isinstance(process.session, slave.Waiting | slave.Resting)
            and process.work is None
            and not process.events
            and not process.machine.spool
            and self.ledger.slaves[process.machine.label].run == process.run
            for process in self.processes
        )
