"""Keeping processes running: started, watched, restarted, and ended to the last one.

One mechanism for a master's services, which are forks of a process that has everything
loaded, and for a farm's programs. The process that runs a supervisor has one thread, and
every process below it belongs to the supervisor, which reaps and kills what its children
leave behind: whatever the process starts in other ways must end before the next poll.

If the supervisor is itself killed, the kernel sends each child its stop signal, and each
child ends what it started: those that start others are supervisors too.
"""

import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType, TracebackType

from piwheels.processes import systemd
from piwheels.processes.child import Child, Command, Restart, last_line, start
from piwheels.processes.descendants import StillAlive, kill_orphans
from piwheels.processes.heart import HeartMonitor
from piwheels.processes.prctl import become_subreaper
from piwheels.processes.restarts import recent_deaths, restart_delay

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Started:
    """A child runs."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A child can do its work."""

    name: str


@dataclass(frozen=True, slots=True)
class Silent:
    """A child that promised beats sent none for so many seconds, and is killed."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """A child ended. status: its exit status, or minus the signal that ended it."""

    name: str
    status: int
    last_words: str


@dataclass(frozen=True, slots=True)
class Restarting:
    """A child will be started again in so many seconds."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """All children are being ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unkillable:
    """Processes could not be killed; the farm goes on without waiting for them."""

    problem: str


Event = Started | Ready | Silent | Died | Restarting | Stopping | Unkillable


@dataclass(slots=True)
class _Charge:
    """A child and how it fares. pid is None while it does not run. All times are monotonic."""

    child: Child
    pid: int | None = None
    heart: HeartMonitor | None = None
    started: float = 0.0
    is_ready: bool = False
    has_ended: bool = False
    deaths: tuple[float, ...] = ()

    def silent_at(self) -> float | None:
        """When its silence will have lasted too long, None if it promised nothing."""
        if self.heart is None or self.heart.last_beat is None or self.child.silence is None:
            return None
        return self.heart.last_beat + self.child.silence


@dataclass(slots=True)
class _Stop:
    """The end, in two phases: children that others need wait for those."""

    status: int
    last_phase: bool = False
    kill_at: float = field(default=float("inf"))


class Supervisor:
    """Runs children until told to stop. A context manager: leaving it leaves no process.

    grace: seconds between the stop signal and SIGKILL. on_event: called with what happens.
    on_ready: called once, when all children are ready for the first time.
    notify: called with lines for the service manager; watchdog: seconds within which that
    wants to hear of us (see piwheels.processes.systemd).
    To be used by the main thread: only there can Python take signals.
    """

    def __init__(
        self,
        children: Iterable[Child] = (),
        *,
        grace: float = 10.0,
        on_event: Callable[[Event], object] = lambda event: None,
        on_ready: Callable[[], object] = lambda: None,
        notify: Callable[..., object] = lambda *lines: None,
        watchdog: float | None = None,
    ) -> None:
        self.grace = grace
        self.on_event = on_event
        self.on_ready = on_ready
        self.notify = notify
        self.watchdog = watchdog
        self.last_words = ""
        self._charges: dict[str, _Charge] = {}
        self._stop: _Stop | None = None
        self._was_ready = False
        self._notified = float("-inf")
        for child in children:
            self.add(child)

    def __enter__(self) -> "Supervisor":
        become_subreaper()
        self._selector = selectors.DefaultSelector()
        self._signals, signalled = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(signalled, False)
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._wakeup = signalled
        self._old_wakeup = signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        self._old_handlers = {
            number: signal.signal(number, _handled_by_wakeup)
            for number in (signal.SIGCHLD, *_STOP_SIGNALS)
            if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop("the supervisor ends")
        while self.poll():
            pass
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._signals)
        os.close(self._wakeup)
        self._selector.close()

    def run(self) -> int:
        """Keep the children running until a stop. Return the exit status for this process.

        That is 0, or os.EX_CONFIG if a child ended with it; last_words then says why.
        """
        with self:
            while self.poll():
                if all(charge.has_ended for charge in self._charges.values()):
                    self.stop("every child has ended")
        return self.status

    @property
    def status(self) -> int:
        """The exit status that the stop stands for."""
        return self._stop.status if self._stop else 0

    def add(self, child: Child) -> None:
        """Keep one more child running, from the next poll on."""
        if child.name in self._charges:
            raise ValueError(f"two children named {child.name}")
        self._charges[child.name] = _Charge(child)

    def stop(self, reason: str, status: int = 0) -> None:
        """Begin to end all children. Return at once; poll until it says that none is left."""
        if self._stop is not None:
            return
        self._stop = _Stop(status)
        self.on_event(Stopping(reason))
        self.notify(systemd.STOPPING, systemd.status(f"stopping: {reason}"))
        self._ask_to_end(stops_last=False)

    def is_ready(self, name: str) -> bool:
        """Whether the child of this name runs and can do its work."""
        return self._charges[name].is_ready

    def poll(self, timeout: float | None = None) -> bool:
        """Do what is due, waiting up to *timeout* seconds for something to happen first.

        Return False once a stop has ended every process. None: wait as long as it takes.
        """
        self._start_due()
        self._proceed()
        if self._is_over():
            return False
        for key, _ in self._selector.select(self._patience(timeout)):
            if key.fd == self._signals:
                self._take_signals()
            else:
                self._listen(key.data)
        self._reap()
        self._kill_silent()
        self._proceed()
        return not self._is_over()

    # Starting

    def _start_due(self) -> None:
        now = time.monotonic()
        for charge in list(self._charges.values()):
            if self._awaits_start(charge) and restart_delay(charge.deaths, now) == 0:
                self._start(charge)

    def _awaits_start(self, charge: _Charge) -> bool:
        return charge.pid is None and not charge.has_ended and self._stop is None

    def _start(self, charge: _Charge) -> None:
        charge.pid, charge.heart = start(charge.child)
        charge.started = time.monotonic()
        self._selector.register(charge.heart.fd, selectors.EVENT_READ, charge)
        self.on_event(Started(charge.child.name, charge.pid))
        if not charge.child.reports_ready:
            self._become_ready(charge)

    # Watching

    def _listen(self, charge: _Charge) -> None:
        if charge.heart is None:
            return
        if not charge.heart.listen(time.monotonic()):
            self._selector.unregister(charge.heart.fd)
        if charge.heart.is_ready and not charge.is_ready:
            self._become_ready(charge)

    def _become_ready(self, charge: _Charge) -> None:
        charge.is_ready = True
        self.on_event(Ready(charge.child.name))
        self._tell_status()

    def _kill_silent(self) -> None:
        now = time.monotonic()
        for charge in self._running():
            silent_at = charge.silent_at()
            if charge.heart and charge.heart.last_beat and silent_at and now >= silent_at:
                self.on_event(Silent(charge.child.name, now - charge.heart.last_beat))
                charge.heart.last_beat = None
                _send(charge, signal.SIGKILL)

    def _take_signals(self) -> None:
        for number in os.read(self._signals, 65536):
            if number in _STOP_SIGNALS:
                self.stop(signal.Signals(number).name)

    # Ending

    def _reap(self) -> None:
        """Wait for all that died: children, and the orphans that came to us."""
        by_pid = {charge.pid: charge for charge in self._running()}
        somebody_died = False
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                somebody_died = True
                if charge := by_pid.get(ended[0]):
                    self._bury(charge, os.waitstatus_to_exitcode(ended[1]))
        if somebody_died:
            self._kill_left_behind()

    def _bury(self, charge: _Charge, status: int) -> None:
        words = self._last_words(charge)
        charge.pid = charge.heart = None
        charge.is_ready = False
        self.on_event(Died(charge.child.name, status, words))
        self._tell_status()
        if status == os.EX_CONFIG and self._stop is None:
            self.last_words = words
            self.stop(f"{charge.child.name}: {words}", os.EX_CONFIG)
        elif self._stop is None:
            self._plan_restart(charge, status)

    def _last_words(self, charge: _Charge) -> str:
        if charge.heart is None:
            return ""
        charge.heart.listen(time.monotonic())
        with suppress(KeyError):
            self._selector.unregister(charge.heart.fd)
        os.close(charge.heart.fd)
        start_ = charge.child.start
        log = start_.log if isinstance(start_, Command) else None
        return charge.heart.last_words or (last_line(log) if log else "")

    def _plan_restart(self, charge: _Charge, status: int) -> None:
        policy = charge.child.restart
        if policy is Restart.NEVER or (policy is Restart.ON_FAILURE and status == 0):
            charge.has_ended = True
            return
        now = time.monotonic()
        charge.deaths = recent_deaths(charge.deaths, charge.started, now)
        self.on_event(Restarting(charge.child.name, restart_delay(charge.deaths, now)))

    def _kill_left_behind(self) -> None:
        """Kill what dead children left: a second start may need what they still hold."""
        try:
            kill_orphans({charge.pid for charge in self._running() if charge.pid}, seconds=5.0)
        except StillAlive as problem:
            self.on_event(Unkillable(str(problem)))

    def _ask_to_end(self, *, stops_last: bool) -> None:
        for charge in self._running():
            if charge.child.stops_last == stops_last:
                _send(charge, charge.child.stop_signal)
        if self._stop:
            self._stop.kill_at = time.monotonic() + self.grace

    # Going on

    def _proceed(self) -> None:
        """Do what needs no event but time, or the end of what was waited for."""
        now = time.monotonic()
        if self.watchdog and now >= self._notified + self.watchdog / 2:
            self._notified = now
            self.notify(systemd.ALIVE)
        if self._stop is None:
            self._greet()
            return
        remaining = [c for c in self._running() if self._stop.last_phase or not c.child.stops_last]
        if not remaining and not self._stop.last_phase:
            self._stop.last_phase = True
            self._ask_to_end(stops_last=True)
        elif remaining and now >= self._stop.kill_at:
            self._stop.kill_at = float("inf")
            for charge in remaining:
                _send(charge, signal.SIGKILL)

    def _greet(self) -> None:
        everybody = self._charges.values()
        if self._was_ready or not everybody:
            return
        if all(charge.is_ready or charge.has_ended for charge in everybody):
            self._was_ready = True
            self.notify(systemd.READY)
            self.on_ready()

    def _is_over(self) -> bool:
        return self._stop is not None and self._stop.last_phase and not any(self._running())

    def _patience(self, timeout: float | None) -> float | None:
        """Seconds until something must be done unasked, at most *timeout*; None for ever."""
        now = time.monotonic()
        waits = [] if timeout is None else [timeout]
        waits += [
            restart_delay(charge.deaths, now)
            for charge in self._charges.values()
            if self._awaits_start(charge)
        ]
        moments = [charge.silent_at() for charge in self._running()]
        moments.append(self._stop.kill_at if self._stop else None)
        moments.append(self._notified + self.watchdog / 2 if self.watchdog else None)
        waits += [moment - now for moment in moments if moment not in (None, float("inf"))]
        return max(0.0, min(waits)) if waits else None

    def _running(self) -> Iterator[_Charge]:
        return (charge for charge in list(self._charges.values()) if charge.pid is not None)

    def _tell_status(self) -> None:
        ready = sum(charge.is_ready for charge in self._charges.values())
        if self._stop is None:
            self.notify(systemd.status(f"{ready} of {len(self._charges)} ready"))


def _send(charge: _Charge, number: signal.Signals) -> None:
    # Not yet waited for, so that its pid cannot belong to another process.
    if charge.pid is not None:
        os.kill(charge.pid, number)


def _handled_by_wakeup(number: int, frame: FrameType | None) -> None:
    """Do nothing: the byte in the wake-up pipe says it all."""
