"""Defaults for targets that no operator has ranked yet."""

from packaging.version import InvalidVersion, Version


def default_rank(python: str) -> int:
    """Older Pythons first: 3.9 gets 30900, 3.11 gets 31100; what cannot be read comes last.

    The wheel of an older Python is the likelier to do for the newer ones too (abi3).
    """
    try:
        version = Version(python)
    except InvalidVersion:
        return 1_000_000
    return version.major * 10_000 + version.minor * 100
