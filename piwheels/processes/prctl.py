"""The two prctl(2) settings that the standard library does not offer."""

import ctypes
import os
import signal

_SET_PDEATHSIG = 1
_SET_CHILD_SUBREAPER = 36

# Loaded once, at import: between fork and exec nothing should be looked up or allocated.
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Receive every orphan among this process's descendants, in place of init.

    Survives exec, is not inherited by children.
    """
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, how: signal.Signals) -> None:
    """Ask for signal *how* when the thread that forked this process ends.

    A parent that died before the call would never be noticed, so that is checked after it.
    Cleared by a change of uid, and by executing a set-uid file; survives other execs.
    parent: its pid, taken before the fork.
    """
    _prctl(_SET_PDEATHSIG, how)
    if os.getppid() != parent:
        os.kill(os.getpid(), how)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
