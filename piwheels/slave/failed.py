"""The one way in which a step of a build ends it."""

import errno

from piwheels.model.builds import Failure, FailureClass
from piwheels.model.errors import PiwheelsError
from piwheels.rules.failures import one_line


class BuildFailed(PiwheelsError):
    """A step of a build went wrong; the build ends with *failure*, the slave goes on."""

    def __init__(self, failure: Failure):
        super().__init__(failure.cause)
        self.failure = failure


class Cancelled(PiwheelsError):
    """The build is no longer wanted. Nobody's fault."""


def failed(kind: FailureClass, cause: str, fix: str = "", needs: str = "") -> BuildFailed:
    """A BuildFailed of class *kind*; *cause* and *fix* become one line each."""
    return BuildFailed(Failure(kind, one_line(cause), one_line(fix), needs))


def failure_of_system(error: OSError) -> Failure:
    """What it means for a build that the slave's own system refused something."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(FailureClass.DISK_FULL, "no space is left on the slave's disk")
    return Failure(FailureClass.SANDBOX, one_line(f"{type(error).__name__}: {error}"))
