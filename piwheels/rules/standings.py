"""Why a version stands on a target as it does, in words, and what an operator can do.

The one place for these words: pages, piw-add, piw-why and piw-farm show what is said here.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from piwheels.model.builds import FailureClass, Outcome
from piwheels.model.queue import Lane, State, Verdict
from piwheels.model.slaves import Slave
from piwheels.model.standings import FullStanding, Place
from piwheels.rules.failures import CONSEQUENCES, Remedy
from piwheels.rules.resources import in_words as size_in_words
from piwheels.rules.slave_state import SlaveState, moment, state_of, task_of, why_no_work

LANES: dict[int, str] = {
    Lane.MANUAL: "what was asked for by hand",
    Lane.NEW: "new releases",
    Lane.BACKLOG: "the backlog",
    Lane.LAST: "pre-releases",
}
MOST_NAMED = 3  # slaves
FIRST_STEPS = {
    Remedy.NONE: "tell its authors, with the log",
    Remedy.ELSEWHERE: "look at the slaves that it failed on",
    Remedy.LARGER: "start a larger slave, or raise the master's limits",
    Remedy.IMAGE: "install what is missing on the slaves, then it is tried again by itself",
    Remedy.DEPENDENCY: "build or wait for what it requires, then it is tried again by itself",
    Remedy.OPERATOR: "read in the log what is wrong with its wheel",
}


class Ended(Protocol):
    """The newest build of a version on a target."""

    @property
    def outcome(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def fix(self) -> str: ...


def cause_and_fix(verdict: Verdict, attempt: Ended | None) -> tuple[str, str]:
    """Why it has no wheel yet, and what would help: one line each, '' where there is none.

    A failure is told for as long as it stands in the way.
    """
    if attempt is None or attempt.outcome != Outcome.FAILURE or not _is_in_the_way(verdict):
        return verdict.reason, ""
    if _wants_more_memory(verdict, attempt):
        return attempt.cause, verdict.reason
    return attempt.cause, attempt.fix


def _is_in_the_way(verdict: Verdict) -> bool:
    """Whether the newest failure still counts: a new chance begins as if there were none."""
    tries = verdict.state is State.WAITING and verdict.attempts > 0
    return tries or verdict.state in (State.BUILDING, State.FAILED, State.HELD)


def _wants_more_memory(verdict: Verdict, attempt: Ended) -> bool:
    """Whether the rule knows more than the build did: that no slave is large enough."""
    return verdict.state is State.HELD and verdict.reason not in ("", attempt.kind)


# When


def begins(standing: FullStanding, now: datetime) -> datetime | None:
    """When a waiting build should begin, with the slaves that work now; None: nobody can say."""
    place = standing.place
    if place is None or standing.pace is None or obstacle(standing, now)[0]:
        return None
    working = [slave for slave in standing.slaves if _works(slave, now)]
    is_free = any(state_of(slave, now) is SlaveState.IDLE for slave in working)
    turns = place.ahead if is_free else place.ahead + 1
    due = now + timedelta(seconds=turns * standing.pace / len(working))
    return max(due, place.not_before) if place.not_before else due


def ends(standing: FullStanding) -> datetime | None:
    """When a build that runs should end, by what such builds took; None: nobody can say."""
    running = standing.running
    if running is None or running.usual_seconds is None:
        return None
    return running.since + timedelta(seconds=running.usual_seconds)


def _works(slave: Slave, now: datetime) -> bool:
    there = state_of(slave, now) not in (SlaveState.GONE, SlaveState.SILENT)
    return there and why_no_work(slave, now) is None


# Why not


def obstacle(standing: FullStanding, now: datetime) -> tuple[str, str]:
    """Why no slave can take what waits, and what to do; '' twice if one can."""
    assert standing.place is not None
    there = [slave for slave in standing.slaves if state_of(slave, now) is not SlaveState.GONE]
    if not there:
        return "no slave of this target is here", f"start a piw-slave for {standing.target.name}"
    if large := _too_small(there, standing.place):
        return large, "start a larger slave for this target"
    able = [slave for slave in there if slave.size >= standing.place.size]
    if any(_works(slave, now) for slave in able):
        return "", ""
    whose = "its slaves get" if len(able) == len(there) else "its large slaves get"
    return f"none of {whose} work: {_listed(able, now)}", _help_for(able, now)


def _too_small(slaves: Sequence[Slave], place: Place) -> str:
    largest = max(slave.size for slave in slaves)
    if largest >= place.size:
        return ""
    return (
        f"it needs a slave with {size_in_words(place.size)} of memory, and the largest here has "
        f"{size_in_words(largest)}"
    )


def _listed(slaves: Sequence[Slave], now: datetime) -> str:
    named = [f"{slave.label} is {_idle_because(slave, now)}" for slave in slaves[:MOST_NAMED]]
    more = len(slaves) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _idle_because(slave: Slave, now: datetime) -> str:
    if state_of(slave, now) is SlaveState.SILENT:
        return f"silent since {moment(slave.last_seen)}"
    return task_of(slave, now).rpartition("; then ")[2]


def _help_for(slaves: Iterable[Slave], now: datetime) -> str:
    states = {state_of(slave, now): slave.label for slave in slaves}
    whys = {why: slave.label for slave in slaves if (why := why_no_work(slave, now))}
    if label := whys.get(SlaveState.PAUSED):
        return f"let it work: piw-slaves resume {label}"
    if label := whys.get(SlaveState.QUARANTINED):
        return f"mend it, then: piw-slaves forgive {label}"
    if label := whys.get(SlaveState.UNFIT):
        return f"mend {label}"
    if label := states.get(SlaveState.SILENT):
        return f"see whether {label} is up and reaches the master"
    return "start another slave for this target"


# In words


def in_words(standing: FullStanding, now: datetime) -> str:
    """How it stands, in one sentence."""
    verdict = standing.verdict
    match verdict.state:
        case State.DONE:
            return _done(standing, now)
        case State.BUILDING:
            return _building(standing, now)
        case State.WAITING:
            return _waiting(standing, now)
        case State.DEFERRED:
            return f"{verdict.reason}: its wheel may do for both"
        case State.FAILED | State.HELD:
            return _given_up(standing, now)
        case State.UNSUPPORTED:
            return f"{verdict.reason}, and this target has {standing.target.python}"
        case State.NO_SDIST:
            return "PyPI has no source of it, or none with a hash"
        case State.SKIPPED:
            return verdict.reason
        case State.UNWANTED:
            return "nobody asked for it"


def _done(standing: FullStanding, now: datetime) -> str:
    if not standing.wheels:
        return standing.verdict.reason or "done"
    newest = standing.wheels[0]
    return f"{newest.filename}, published {ago(newest.published, now)}"


def _building(standing: FullStanding, now: datetime) -> str:
    running = standing.running
    if running is None:
        return "a slave builds it"
    end = ends(standing)
    told = f"{running.slave} is {running.phase}" if running.phase else f"{running.slave} builds it"
    told += f", since {roughly(now - running.since)}"
    if end is None:
        return f"{told}; how long it takes is not known"
    if end <= now:
        return f"{told}; longer than such builds took so far ({_length(running.usual_seconds)})"
    return f"{told}; should end in {roughly(end - now)}"


def _waiting(standing: FullStanding, now: datetime) -> str:
    place = standing.place
    if place is None:
        return "waits"
    why_not, _ = obstacle(standing, now)
    if place.not_before is not None and place.not_before > now:
        told = (
            f"tried again in {roughly(place.not_before - now)}, after "
            f"{_times(standing.verdict.attempts)}"
        )
    else:
        told = f"waits among {lane_in_words(place.lane)}, {_ahead(place)}"
    if why_not:
        return f"{told}; but {why_not}"
    return told if place.not_before is not None else f"{told}; {_when(standing, place, now)}"


def _ahead(place: Place) -> str:
    if place.is_more:
        return f"behind more than {place.ahead:,} builds"
    match place.ahead:
        case 0:
            return "as the first in line"
        case 1:
            return "behind 1 build"
    return f"behind {place.ahead:,} builds"


def _when(standing: FullStanding, place: Place, now: datetime) -> str:
    when = begins(standing, now)
    if when is None:
        return "nothing was built here lately, so when it begins is not known"
    if when <= now:
        return "should begin at once"
    return f"should begin in {'more than ' if place.is_more else ''}{roughly(when - now)}"


def _given_up(standing: FullStanding, now: datetime) -> str:
    verdict, attempt = standing.verdict, standing.attempt
    if attempt is None:
        return verdict.reason
    told = f"{attempt.kind}, {ago(attempt.ended, now)}, after {_times(verdict.attempts)}"
    if verdict.state is State.HELD:
        return f"{told}; an operator has to decide"
    return told


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"


def lane_in_words(lane: int) -> str:
    """What waits in a lane."""
    return LANES.get(lane, f"lane {lane}")


# What next


def next_step(standing: FullStanding, now: datetime) -> str:
    """What an operator can do about it, or ''."""
    name = f"{standing.package} {standing.version}"
    match standing.verdict.state:
        case State.WAITING:
            return obstacle(standing, now)[1] if standing.place else ""
        case State.FAILED | State.HELD:
            return _after_failure(standing, f"piw-add {name}")
        case State.SKIPPED:
            if standing.unskip:
                return f"to build it: {standing.unskip}"
            return f"to build it all the same: piw-add {name}"
        case State.UNWANTED:
            return f"ask for it: piw-add {name}"
    return ""


def _after_failure(standing: FullStanding, again: str) -> str:
    """The failure itself may tell a fix; here is who has to act, and how to try again."""
    attempt = standing.attempt
    remedy = Remedy.NONE
    if attempt is not None and attempt.kind in set(FailureClass):
        remedy = CONSEQUENCES[FailureClass(attempt.kind)].remedy
    if remedy is Remedy.NETWORK:
        return f"let its builds reach the network: piw-add {standing.package} --network"
    first = FIRST_STEPS.get(remedy, "")
    return "; ".join(filter(None, (first, f"to try again: {again}")))


# Times


def roughly(length: timedelta) -> str:
    """A length of time as people say it: less than a minute, 5 min, 3 h, 2 days."""
    return _length(length.total_seconds())


def _length(seconds: float | None) -> str:
    minutes = round((seconds or 0) / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"


def ago(when: datetime, now: datetime) -> str:
    """How long since *when*."""
    return f"{roughly(now - when)} ago"
