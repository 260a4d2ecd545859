"""Which lane a claim takes from: the first that has anything, but none starves.

Most claims take the lowest lane that has anything. One in SHARE takes first from a lane drawn
by lot, so every lane gets at least one claim in SHARE * len(Lane), however much waits before
it. The lot is drawn from the lease's token: two dispatchers need no common count, and a claim
that is played again ends the same way. Slaves that ask at once draw one lot together.
"""

from piwheels.model.queue import Lane

SHARE = 8  # one claim in so many is drawn by lot


def favoured(token: bytes) -> Lane | None:
    """The lane that the claim with this token tries first, or None: they go in order."""
    turn, lot = token[0], token[1]
    return None if turn % SHARE else Lane(lot % len(Lane))
