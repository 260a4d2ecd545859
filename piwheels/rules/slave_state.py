"""How a slave is, in one word, and what it builds or why it gets no work.

The one place for these words: monitors, piw-slaves and piw-why show the same.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from piwheels.model.slaves import Slave

SILENCE = timedelta(minutes=1)  # without a word, after which a slave is shown as silent


class SlaveState(StrEnum):
    """What hides the others comes first: a slave that is gone may be quarantined as well."""

    GONE = "gone"
    SILENT = "silent"
    BUILDING = "building"
    LEAVING = "leaving"
    PAUSED = "paused"
    QUARANTINED = "quarantined"
    UNFIT = "unfit"
    IDLE = "idle"


def state_of(slave: Slave, now: datetime) -> SlaveState:
    """How *slave* is."""
    if not slave.present:
        return SlaveState.GONE
    if now - slave.last_seen > SILENCE:
        return SlaveState.SILENT
    if slave.build:
        return SlaveState.BUILDING
    return why_no_work(slave, now) or SlaveState.IDLE


def why_no_work(slave: Slave, now: datetime) -> SlaveState | None:
    """What keeps a slave that is there from being given work, whatever it does now."""
    if slave.wish == "leave":
        return SlaveState.LEAVING
    if slave.wish == "rest":
        return SlaveState.PAUSED
    if slave.quarantined > now:
        return SlaveState.QUARANTINED
    if slave.unfit:
        return SlaveState.UNFIT
    return None


def task_of(slave: Slave, now: datetime) -> str:
    """What *slave* builds, or why it gets no work, in words; '' for one that is idle."""
    then = why_no_work(slave, now)
    why = "" if then is None else _in_words(slave, then)
    if slave.build:
        return f"{slave.build}; then {why}" if why else slave.build
    return why


def _in_words(slave: Slave, state: SlaveState) -> str:
    match state:
        case SlaveState.QUARANTINED:
            return f"quarantined until {moment(slave.quarantined)}: it spoiled builds"
        case SlaveState.UNFIT:
            return f"unfit: {slave.unfit}"
        case SlaveState.PAUSED:
            return "paused by an operator"
        case SlaveState.LEAVING:
            return "leaving, as an operator wants"
    return state


def moment(when: datetime) -> str:
    """A time as people read it; all times are told in UTC."""
    return f"{when:%Y-%m-%d %H:%M} UTC"
