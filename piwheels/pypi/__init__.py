"""The only client of PyPI."""

from piwheels.pypi.client import PyPI
from piwheels.pypi.errors import NoJournal, NoSuchProject, RateLimited, StalePage
from piwheels.pypi.journal import Journal, JournalEntry, journal_url

__all__ = [
    "Journal",
    "JournalEntry",
    "NoJournal",
    "NoSuchProject",
    "PyPI",
    "RateLimited",
    "StalePage",
    "journal_url",
]
