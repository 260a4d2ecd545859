"""As whom PostgreSQL runs: as ourselves, or, since it refuses root, as another account.

A root's default data lies under /root, which others cannot enter, and so may the binaries.
So the other account keeps the capability to look into any directory (CAP_DAC_READ_SEARCH,
or the stronger CAP_DAC_OVERRIDE where a container has only that), but only where it is
needed; writing stays limited to what was given to it.
"""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from piwheels.model.errors import PiwheelsError
from piwheels.processes.privileges import is_root, run_as

_ACCOUNTS = ("postgres", "nobody")
_CAPABILITIES: tuple[tuple[str, ...], ...] = ((), ("dac_read_search",), ("dac_override",))


class NoAccount(PiwheelsError):
    """Root has nobody to run PostgreSQL as. The operator's to change."""


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of the database's files. capabilities: what it needs to reach them.

    None of it applies where we are not root: then uid is our own.
    """

    uid: int
    gid: int
    capabilities: tuple[str, ...] = ()

    @property
    def is_ourselves(self) -> bool:
        """Whether commands run as this process does."""
        return self.uid == os.geteuid()

    def command(
        self, words: Sequence[str | Path], death_signal: signal.Signals | None = None
    ) -> list[str]:
        """Return the words of a command that runs *words* as this account."""
        plain = [str(word) for word in words]
        if self.is_ourselves:
            return plain
        return [
            *run_as(self.uid, self.gid, death_signal=death_signal, capabilities=self.capabilities),
            *plain,
        ]

    def give(self, path: Path) -> None:
        """Make it the owner of a file or directory, with all below."""
        if self.is_ourselves:
            return
        shutil.chown(path, self.uid, self.gid)
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.chown(Path(folder, name), self.uid, self.gid, follow_symlinks=False)


def choose_account(cluster: Path, binaries: Path) -> Account:
    """Choose who runs the binaries on this cluster, which need not exist yet; its folder must.

    Raise NoAccount.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    if not is_root():
        if owner not in (None, os.geteuid()):
            raise NoAccount(
                f"{cluster} belongs to uid {owner}: run as that user, or as root,"
                " or name another directory with --data"
            )
        return Account(os.geteuid(), os.getegid())
    entry = _entry(owner)
    for capabilities in _CAPABILITIES:
        account = Account(entry.pw_uid, entry.pw_gid, capabilities)
        if _can_work(account, cluster.parent, binaries):
            return account
    raise NoAccount(
        f"PostgreSQL does not run as root, and the account {entry.pw_name} cannot reach"
        f" {cluster.parent} and {binaries}: name a directory that it can enter, such as"
        " --data /var/lib/piwheels, or run as an ordinary user"
    )


def _entry(owner: int | None) -> pwd.struct_passwd:
    """Return who shall run it: who did before, else the first account that exists."""
    if owner:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            pass  # its files will be given to another
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoAccount(
        f"PostgreSQL does not run as root, and there is no account {' or '.join(_ACCOUNTS)}:"
        " run as an ordinary user, or add one with useradd --system postgres"
    )


def _can_work(account: Account, folder: Path, binaries: Path) -> bool:
    """Try it for real, rather than reading modes: there are ACLs, mounts and containers."""
    words = account.command(
        ["/bin/sh", "-c", 'cd "$1" && exec "$2" --version', "sh", folder, binaries / "postgres"]
    )
    return subprocess.run(words, capture_output=True, cwd="/", check=False).returncode == 0
