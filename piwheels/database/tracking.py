"""Which projects must be read, and how far PyPI was followed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from piwheels.database.statements import statement
from piwheels.model.following import Follow, ProjectJob

LARGEST = 2**31 - 1  # of a popularity; some projects come near


@dataclass(frozen=True, slots=True)
class Progress:
    """How far PyPI was followed. serial: all that the journal named up to it became a job;
    applied: and is in the database, too. began: to follow all of PyPI.

    compared: None: never; unknown, stale, absent: what the last comparison with PyPI's list
    found; see the schema.
    """

    serial: int
    applied: int
    began: datetime
    has_journal: bool
    compared: datetime | None
    unknown: int
    stale: int
    absent: int


@dataclass(frozen=True, slots=True)
class PutOff:
    """A job that could not be done: to be taken again in *seconds*."""

    name: str
    seconds: float
    is_missing: bool = False


# Jobs


def enter_jobs(
    connection: Connection,
    serials: Mapping[str, int | None],
    reason: str,
    everything: bool = False,
) -> int:
    """Have these projects read, by normalized name, at least as new as these serials.

    everything: also those that are not known. Returns how many jobs are new or expect more.
    """
    parameters = {
        "names": list(serials),
        "serials": list(serials.values()),
        "reason": reason,
        "everything": everything,
    }
    return connection.execute(statement("tracking", "enter_jobs"), parameters).rowcount


def take(connection: Connection, batch: int, lease: float, longest: float) -> list[ProjectJob]:
    """Take the most popular jobs for *lease* seconds. longest: that any job is put off."""
    parameters = {"batch": batch, "lease": lease, "longest": longest}
    rows = connection.execute(statement("tracking", "take"), parameters).all()
    rows = sorted(rows, key=lambda row: -row.popularity)
    return [
        ProjectJob(
            row.name,
            row.serial,
            row.reason,
            row.attempts,
            None if row.missing is None else float(row.missing),
        )
        for row in rows
    ]


def put_off(connection: Connection, jobs: Sequence[PutOff]) -> None:
    """Let these jobs wait, unless they were asked for anew."""
    if jobs:
        parameters = {
            "names": [job.name for job in jobs],
            "seconds": [job.seconds for job in jobs],
            "is_missing": [job.is_missing for job in jobs],
        }
        connection.execute(statement("tracking", "put_off"), parameters)


def give_back(connection: Connection, names: Collection[str]) -> None:
    """Let others have these jobs at once: nobody asked for their pages."""
    if names:
        connection.execute(statement("tracking", "give_back"), {"names": list(names)})


def done(connection: Connection, serials: Mapping[str, int | None]) -> None:
    """These projects were read, with these serials; a job that expects more stays."""
    if serials:
        parameters = {"names": list(serials), "serials": list(serials.values())}
        connection.execute(statement("tracking", "done"), parameters)


def left(connection: Connection, most: int | None = None) -> int:
    """How many jobs there are, due or not; *most*: more need not be counted."""
    return int(connection.execute(statement("tracking", "left"), {"most": most}).scalar_one())


def enter_polls(connection: Connection, batch: int) -> int:
    """Have pages read that were not for long, at most so many; return how many."""
    found = connection.execute(statement("tracking", "enter_polls"), {"batch": batch})
    return found.rowcount


# The journal


def progress(connection: Connection) -> Progress:
    """How far PyPI was followed."""
    return Progress(**connection.execute(statement("tracking", "progress")).mappings().one())


def advance(connection: Connection, serial: int) -> None:
    """All that the journal named up to *serial* is a job by now, or was done."""
    connection.execute(statement("tracking", "advance"), {"serial": serial})


def note_no_journal(connection: Connection, period: float) -> None:
    """There is no journal: all pages are read again within *period* seconds."""
    if connection.execute(statement("tracking", "no_journal")).one_or_none() is not None:
        connection.execute(statement("tracking", "read_sooner"), {"period": period})


# The list


def count_known(connection: Connection, most: int) -> int:
    """How many packages are known; *most* if it is more."""
    return int(connection.execute(statement("tracking", "known"), {"most": most}).scalar_one())


def begin_comparison(connection: Connection, period: float) -> bool:
    """Whether a comparison with PyPI's list is due, every *period* seconds, and is the caller's."""
    found = connection.execute(statement("tracking", "begin_comparison"), {"period": period})
    if found.one_or_none() is None:
        return False
    connection.execute(statement("tracking", "clear_listing"))
    return True


def compare(
    connection: Connection, listed: Mapping[str, int | None], everything: bool
) -> tuple[int, int]:
    """Take in a part of PyPI's list: last serials by normalized name.

    Projects that are to be read become jobs. Returns how many were unknown, and how many had
    changed long enough ago that the journal should have told.
    """
    parameters = {
        "names": list(listed),
        "serials": list(listed.values()),
        "everything": everything,
    }
    connection.execute(statement("tracking", "put_listing"), {"names": list(listed)})
    connection.execute(statement("tracking", "go_on_comparing"))
    row = connection.execute(statement("tracking", "enter_differing"), parameters).one()
    return row.unknown, row.stale


def give_up_comparison(connection: Connection, seconds: float) -> None:
    """The list did not come to its end: not again for so long."""
    connection.execute(statement("tracking", "give_up_comparison"), {"seconds": seconds})


def end_comparison(connection: Connection, unknown: int, stale: int) -> int:
    """The list is at its end: known packages that it lacks become jobs. Returns how many."""
    absent = int(connection.execute(statement("tracking", "enter_absent")).scalar_one())
    parameters = {"unknown": unknown, "stale": stale, "absent": absent}
    connection.execute(statement("tracking", "end_comparison"), parameters)
    connection.execute(statement("tracking", "clear_listing"))
    return absent


# Popularity


def is_count_due(connection: Connection, period: float) -> bool:
    """Whether popularity is to be read again, every *period* seconds."""
    found = connection.execute(statement("tracking", "is_count_due"), {"period": period})
    return bool(found.scalar_one())


def end_count(connection: Connection) -> None:
    """Popularity was read."""
    connection.execute(statement("tracking", "end_count"))


def enter_unread(connection: Connection, names: Iterable[str], reason: str) -> None:
    """Have those of these packages read that are followed and were not read since."""
    parameters = {"names": list(names), "reason": reason}
    connection.execute(statement("tracking", "enter_unread"), parameters)


def put_counts(
    connection: Connection, counts: Mapping[str, int], follow: Follow, policy: str
) -> list[int]:
    """Enter downloads by normalized name; return the versions whose place in the queue is new.

    follow: why unknown ones become known, NOT: they do not.
    """
    parameters = {
        "names": list(counts),
        "popularities": [min(count, LARGEST) for count in counts.values()],
    }
    if follow is not Follow.NOT:
        new = {**parameters, "follow": follow.value, "policy": policy}
        connection.execute(statement("tracking", "enter_counted"), new)
        if follow is Follow.POPULAR:
            connection.execute(statement("tracking", "follow_counted"), parameters)
    return list(connection.execute(statement("tracking", "put_counts"), parameters).scalars())


def keep_popular(connection: Connection, names: Collection[str]) -> None:
    """Only these are followed for their popularity."""
    connection.execute(statement("tracking", "unfollow_popular"), {"names": list(names)})


def follow_needed(connection: Connection) -> list[str]:
    """Follow what builds of followed packages lacked; return what is so from now on."""
    return list(connection.execute(statement("tracking", "enter_needed")).scalars())
