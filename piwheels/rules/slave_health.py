"""Quarantine: a slave that fails again and again by its own fault gets no work for a while.

It clears itself: after the quarantine the slave is tried again, and one build that ends as
builds should wipes the record. Each quarantine that follows without such a build is twice as
long.
"""

from dataclasses import dataclass
from datetime import timedelta

from piwheels.model.builds import FailureClass
from piwheels.rules.failures import CONSEQUENCES, Blame

PATIENCE = 3  # failures in a row
SHORTEST = timedelta(minutes=10)
LONGEST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Record:
    """A slave's failures in a row that were its own fault, and its quarantines without a
    good build between them.
    """

    blame: int = 0
    quarantines: int = 0


def blamed(kind: FailureClass, lost_before: int) -> Blame:
    """Whose fault a failure is. lost_before: other slaves that were lost with the same version.

    A version that takes slave after slave down with it is to blame itself.
    """
    if kind is FailureClass.SLAVE_LOST and lost_before:
        return Blame.PACKAGE
    return CONSEQUENCES[kind].blame


def after(record: Record, blame: Blame) -> tuple[Record, timedelta | None]:
    """The record after a build ended, and how long the slave is quarantined, if it is.

    blame: Blame.NOBODY for trouble elsewhere; what is the package's fault, as well as
    success, shows that the slave works, and is given as Blame.PACKAGE.
    """
    match blame:
        case Blame.NOBODY:
            return record, None
        case Blame.PACKAGE:
            return Record(), None
    count = record.blame + 1
    if count < PATIENCE and not record.quarantines:
        return Record(count, record.quarantines), None
    length = min(SHORTEST * 2**record.quarantines, LONGEST)
    return Record(0, min(record.quarantines + 1, 30)), length
