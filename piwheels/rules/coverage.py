"""Whether a wheel does for a target: a matter of tags alone.

So ``none``, ``abi3``, ``py2.py3``, platform aliases and PyPI's own wheels need no special
case. Source: platform compatibility tags.
"""

from collections.abc import Set


def covers(wheel: Set[str], target: Set[str]) -> bool:
    """Whether a wheel with these tags installs on a target that supports those.

    Of several wheels, the union of their tags may be given: one that fits is enough.
    """
    return not wheel.isdisjoint(target)
