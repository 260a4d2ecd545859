"""A slave, as far as it decides what the slave is given."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Slave:
    """wish: of the operator: work, rest or leave. quarantined: until then.

    unfit: why it gets no work as it is, or ''. size: see rules.resources. build: what it
    builds, as numpy 2.0, or ''.
    """

    slave_id: int
    label: str
    target_id: int
    size: int
    present: bool
    last_seen: datetime
    wish: str
    quarantined: datetime
    unfit: str
    build: str = ""
