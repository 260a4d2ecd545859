"""When a process that died may start again."""

from collections.abc import Sequence

GOOD_RUN = 60.0
"""Seconds of running after which earlier deaths are forgiven."""

LONGEST_PAUSE = 30.0


def recent_deaths(earlier: Sequence[float], started: float, died: float) -> tuple[float, ...]:
    """Add a death to those not yet forgiven; a good run before it forgives them.

    All are times of one monotonic clock, oldest first.
    """
    if died - started >= GOOD_RUN:
        return (died,)
    # Enough to reach the longest pause; a crash loop of months must not grow a list.
    return (*earlier[-7:], died)


def restart_delay(deaths: Sequence[float], now: float) -> float:
    """Seconds from *now* until the next start: none, 1, 2, 4 … up to 30 after each death."""
    if not deaths:
        return 0.0
    pause = 0.0 if len(deaths) == 1 else min(2.0 ** (len(deaths) - 2), LONGEST_PAUSE)
    return max(0.0, deaths[-1] + pause - now)
