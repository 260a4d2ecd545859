"""Asking PyPI for the pages of projects: a job in, what came of it out."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

from piwheels.model.errors import BadName, Unavailable
from piwheels.model.following import ProjectJob
from piwheels.model.projects import ProjectPage
from piwheels.pypi import NoSuchProject, PyPI, RateLimited, StalePage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Read:
    """PyPI's page, at least as new as the job expects."""

    job: ProjectJob
    page: ProjectPage


@dataclass(frozen=True, slots=True)
class Missing:
    """PyPI says that there is no such project."""

    job: ProjectJob


@dataclass(frozen=True, slots=True)
class Unread:
    """The page could not be had, or is too old."""

    job: ProjectJob
    reason: str


@dataclass(frozen=True, slots=True)
class Hopeless:
    """No project can have this name."""

    job: ProjectJob


Outcome = Read | Missing | Unread | Hopeless


class Gate:
    """Closed while PyPI wants to be left alone, for all threads. *clock*: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.opens = 0.0
        self.changed = threading.Condition()
        self.is_over = False

    def close(self, seconds: float) -> None:
        """Let nobody through for so long."""
        with self.changed:
            self.opens = max(self.opens, self.clock() + seconds)

    def end(self) -> None:
        """Let everybody go: there is nothing to be asked any more."""
        with self.changed:
            self.is_over = True
            self.changed.notify_all()

    def wait(self) -> bool:
        """Wait until the gate is open; False if there is nothing to be asked any more."""
        with self.changed:
            while not self.is_over and (left := self.opens - self.clock()) > 0:
                self.changed.wait(left)
            return not self.is_over

    def sleep(self, seconds: float) -> bool:
        """Wait for so long; False if there is nothing to be asked any more."""
        with self.changed:
            self.changed.wait_for(lambda: self.is_over, seconds)
            return not self.is_over


def read(pypi: PyPI, gate: Gate, job: ProjectJob) -> Outcome | None:
    """Ask for the page that *job* is about; None if there is nothing to be asked any more.

    Whatever goes wrong concerns this one project only.
    """
    while gate.wait():
        try:
            return Read(job, pypi.project(job.name, job.serial))
        except RateLimited as error:
            log.warning("%s", error)
            gate.close(error.seconds)
        except NoSuchProject:
            return Missing(job)
        except BadName:
            return Hopeless(job)
        except StalePage as error:
            return Unread(job, str(error))
        except Unavailable as error:
            log.warning("%s", error)
            return Unread(job, str(error))
        except Exception as error:  # one odd page must not stop the others
            log.exception("cannot read the page of %s", job.name)
            return Unread(job, f"{type(error).__name__}: {error}")
    return None


def jitter(text: str) -> float:
    """A fraction in [0, 1) that differs between texts and is the same each time asked."""
    return crc32(text.encode()) / 2**32
