"""Errors that cross the borders between parts."""


class PiwheelsError(Exception):
    """Something the farm foresaw. Its text is for people and names the next step."""


class BadName(PiwheelsError):
    """A package, version or file name that breaks its specification. Its writer's fault."""


class BadMessage(PiwheelsError):
    """Bytes that are no message of this socket. The peer's fault; the peer is dropped."""


class IllegalMessage(PiwheelsError):
    """A peer broke the conversation. That peer is dropped; the farm goes on."""


class BadWheel(PiwheelsError):
    """A wheel that must not be published. Its builder's fault; the text is the reason."""


class Unavailable(PiwheelsError):
    """A peer or a server cannot be reached now. Nobody's fault; trying later may help."""


class BadConfiguration(PiwheelsError):
    """The operator's settings, or this host, make work impossible: trying again would not help.

    A process that ends for it ends with os.EX_CONFIG, and its supervisor with it.
    """
