"""What may go wrong when PyPI is asked."""

from piwheels.model.errors import PiwheelsError, Unavailable


class NoSuchProject(PiwheelsError):
    """PyPI has no project of this name, perhaps not any more."""


class NoJournal(PiwheelsError):
    """Whatever answers keeps no journal, as mirrors do not. Trying again will not help."""


class StalePage(Unavailable):
    """A cache's old copy of a page. Nobody's fault; it is not to be believed, but asked again."""


class RateLimited(Unavailable):
    """We ask too often. seconds: how long the server wants to be left alone."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds
