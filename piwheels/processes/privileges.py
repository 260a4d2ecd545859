"""Running commands as somebody else, with nothing but setpriv (util-linux)."""

import grp
import os
import pwd
import shutil
import signal
from collections.abc import Sequence

from piwheels.model.errors import PiwheelsError

DYNAMIC_UIDS = range(61184, 65520)
"""Uids that systemd gives out for a while and never for good: no file belongs to them."""


class CannotChangeUser(PiwheelsError):
    """Nobody else to run a command as: no uid left, or no tool. The operator's to change."""


def is_root() -> bool:
    """Whether this process may become anybody."""
    return os.geteuid() == 0


def dynamic_uid(slot: int) -> int:
    """The uid for the build in this slot (0, 1, …) of this machine; it needs no passwd entry.

    Counted down from the end of systemd's range, since systemd itself fills it by hash, and
    passing over what the name service knows as a user or group, such as systemd's own.
    Raise CannotChangeUser if the range has no such slot.
    """
    free = (uid for uid in reversed(DYNAMIC_UIDS) if not _is_allocated(uid))
    for number, uid in enumerate(free):
        if number == slot:
            return uid
    raise CannotChangeUser(f"no uid for slot {slot}: run fewer builds at once")


def run_as(
    uid: int,
    gid: int,
    *,
    no_new_privileges: bool = True,
    death_signal: signal.Signals | None = None,
    capabilities: Sequence[str] = (),
) -> list[str]:
    """The words to put before a command so that root runs it as *uid* with group *gid* only.

    death_signal: sent when the parent dies. It must be asked for here, because changing the
    uid cancels an earlier request; a parent that dies in the millisecond before setpriv asks
    goes unnoticed. capabilities: names without cap_, kept across exec (ambient).
    Raise CannotChangeUser.
    """
    setpriv = shutil.which("setpriv", path=os.defpath + ":/usr/sbin:/sbin")
    if setpriv is None:
        raise CannotChangeUser("setpriv is missing: install util-linux, or do not run as root")
    words = [setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    kept = ",".join(f"+{name}" for name in capabilities)
    words.append(f"--inh-caps={kept or '-all'}")
    if kept:
        # access(2) ignores capabilities of ordinary users unless this bit is set.
        words += [f"--ambient-caps={kept}", "--securebits=+no_setuid_fixup"]
    if no_new_privileges:
        words.append("--no-new-privs")
    if death_signal is not None:
        words.append(f"--pdeathsig={death_signal.name.removeprefix('SIG')}")
    return words


def _is_allocated(number: int) -> bool:
    try:
        pwd.getpwuid(number)
    except KeyError:
        try:
            grp.getgrgid(number)
        except KeyError:
            return False
    return True
