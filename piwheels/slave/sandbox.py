"""Where strangers' code runs: the levels of the design, and which of them works here.

L0: own user when the slave is root, clean environment, limits, and the whole tree is killed.
L1: and nothing it executes can gain privileges. L2: bubblewrap; the build sees the system,
its interpreter and its build requirements read-only, its own directories, and no network.
Below L2 without root, the build is the slave's own user: fit for trusted packages only.
"""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from piwheels.model.builds import FailureClass, Limits
from piwheels.model.errors import PiwheelsError
from piwheels.processes.descendants import StillAlive, kill_tree
from piwheels.processes.privileges import CannotChangeUser, is_root, run_as
from piwheels.rules.failures import one_line
from piwheels.slave import inside
from piwheels.slave.accounts import claim, give, kill_all_of
from piwheels.slave.buildlog import BuildLog
from piwheels.slave.clock import Clock
from piwheels.slave.failed import BuildFailed, failed
from piwheels.slave.interpreter import Interpreter
from piwheels.slave.room import Room, open_room
from piwheels.slave.watch import Launch, Usage, run

TRIAL_SECONDS = 30
LARGEST_TMP = 4 * 1024**3

# What builds need of the system. /usr/local and /opt may hold the operator's toolchains, but
# /opt often also holds what is nobody's business: it has to be allowed by name.
SYSTEM = ("/usr",)
MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
CONFIGURATION = (
    "/etc/alternatives",
    "/etc/debian_version",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/os-release",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
FOR_NETWORK = ("/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/gai.conf")
PASSED_FOR_NETWORK = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"),
)


class Level(StrEnum):
    """How strong a sandbox is; levels compare as text."""

    L0 = "L0"
    L1 = "L1"
    L2 = "L2"


class NoSandbox(PiwheelsError):
    """No sandbox of the wanted level works on this machine. The operator's to mend."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The strongest sandbox that works here. reasons: why not a stronger one, with the remedy."""

    level: Level
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class View:
    """Paths as the build sees them."""

    source: str
    wheels: str
    control: str
    home: str
    tmp: str
    tools: str
    environment: str


INSIDE = View("/build", "/wheels", "/control", "/home/build", "/tmp", "/tools", "/environment")


class Cell:
    """A sandbox set up for one build. used: what all its commands took until now."""

    def __init__(
        self, sandbox: "Sandbox", room: Room, uid: int | None, network: bool, limits: Limits
    ):
        self.sandbox = sandbox
        self.room = room
        self.uid = uid
        self.network = network
        self.limits = limits
        self.used = Usage(None)

    def view(self, environment: Path) -> View:
        """The room and the build *environment* as the build sees them."""
        if self.sandbox.level >= Level.L2:
            return INSIDE
        room = self.room
        own = (room.source, room.wheels, room.control, room.home, room.tmp, room.tools)
        return View(*map(str, (*own, environment)))

    def admit(self) -> None:
        """Give the build what it may write to. Before its first command, never after."""
        if self.uid is not None:
            for path in self.room.writable:
                give(path, self.uid)
        for path in self.room.writable:
            path.chmod(0o700)
        for path in self.room.tools.iterdir():
            path.chmod(0o644)

    def run(
        self,
        command: Sequence[str],
        environment: Path,
        variables: Mapping[str, str],
        clock: Clock,
        log: BuildLog,
    ) -> int | None:
        """Run *command* in the source directory, with *variables* added to the clean ones.

        environment: the directory with the build requirements. Return the exit status as
        subprocess has it. Raise BuildFailed or Cancelled if something else ended it.
        """
        view = self.view(environment)
        launch = Launch(
            command=self._command(view, environment, command),
            environment={**self._variables(view), **variables},
            directory="/" if self.sandbox.level >= Level.L2 else view.source,
            kill=self._kill,
            written=self.room.writable,
        )
        try:
            used = run(launch, self.limits, clock, log)
        except StillAlive as error:
            raise failed(FailureClass.SANDBOX, str(error)) from error
        self.used = Usage(
            used.status,
            self.used.cpu_seconds + used.cpu_seconds,
            max(self.used.peak_memory, used.peak_memory),
        )
        return used.status

    def _command(self, view: View, environment: Path, command: Sequence[str]) -> list[str]:
        """*command*, below the process that reports, below what builds the walls."""
        alone = self.uid is not None or self.sandbox.level >= Level.L2
        python = str(self.sandbox.interpreter.python)
        first = [python, "-I", "-S", f"{view.tools}/{Path(inside.__file__).name}", "{report}"]
        first += ["everything" if alone else "nothing", json.dumps(self._rlimits(alone))]
        words = [*self.sandbox.drop(self.uid), *first, *command]
        if self.sandbox.level >= Level.L2:
            words = [*self.sandbox.walls(self, environment), "--", *words]
        return words

    def _rlimits(self, alone: bool) -> dict[str, int]:
        limits = {"RLIMIT_CORE": 0}
        if self.limits.memory:
            limits["RLIMIT_AS"] = self.limits.memory
        if self.limits.disk:
            limits["RLIMIT_FSIZE"] = self.limits.disk
        if self.limits.processes and alone:  # the kernel counts by user
            limits["RLIMIT_NPROC"] = self.limits.processes
        return limits

    def _variables(self, view: View) -> dict[str, str]:
        variables = {
            "PATH": f"{view.environment}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": view.home,
            "TMPDIR": view.tmp,
            "USER": "build",
            "LOGNAME": "build",
            "SHELL": "/bin/sh",
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "VIRTUAL_ENV": view.environment,
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",  # or what compilers print overtakes what Python prints
            "PYTHONHASHSEED": "0",  # the order of sets ends in some wheels
            "GIT_TERMINAL_PROMPT": "0",
            "PIWHEELS_BUILD": "1",
        }
        if self.network:
            variables |= {k: os.environ[k] for k in PASSED_FOR_NETWORK if k in os.environ}
        return variables

    def _kill(self, pid: int) -> None:
        if self.uid is not None:
            kill_all_of(self.uid)
        kill_tree(pid)


class Sandbox:
    """Sandboxes of one *level* for builds with *interpreter*.

    readable: further paths of the system that builds may read, e.g. a toolchain in /opt.
    """

    def __init__(self, interpreter: Interpreter, level: Level, readable: Sequence[Path] = ()):
        self.interpreter = interpreter
        self.level = level
        self.readable = tuple(readable)

    @contextmanager
    def cell(self, room: Room, limits: Limits, network: bool) -> Iterator[Cell]:
        """A cell around *room*. As root, under a user of its own while the context lasts."""
        with claim() if is_root() else nullcontext(None) as uid:
            shutil.copy(inside.__file__, room.tools)
            if self.level >= Level.L2:
                _write_accounts(room.tools, os.getuid() if uid is None else uid)
            yield Cell(self, room, uid, network, limits)

    @property
    def cuts_network(self) -> bool:
        """Whether builds that may not reach the network cannot."""
        return self.level >= Level.L2

    @property
    def protects_environment(self) -> bool:
        """Whether builds cannot write to their build requirements."""
        return self.level >= Level.L2 or is_root()

    def drop(self, uid: int | None) -> list[str]:
        """The words that make a command an ordinary user's, for good."""
        # bubblewrap asks for its own death signal, but a change of user cancels that.
        if uid is not None:
            return run_as(
                uid, uid, death_signal=signal.SIGKILL, no_new_privileges=self.level > Level.L0
            )
        if self.level == Level.L1:
            return [_find("setpriv", "util-linux"), "--no-new-privs", "--pdeathsig=KILL"]
        return []

    def walls(self, cell: Cell, environment: Path) -> list[str]:
        """The bubblewrap command line. As root it keeps its privileges, for setpriv to drop."""
        room, size = cell.room, str(_tmp_bytes(cell.limits))
        words = [_find("bwrap", "bubblewrap")]
        words += ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        words += [] if cell.uid is not None else ["--unshare-user", "--disable-userns"]
        words += [] if cell.network else ["--unshare-net"]
        # Not --as-pid-1: a first process whose user changed would outlive a killed slave.
        words += ["--die-with-parent", "--new-session", "--hostname", "build"]
        words += ["--proc", "/proc", "--dev", "/dev"]
        for directory in ("/home", "/run", "/var"):
            words += ["--perms", "0755", "--dir", directory]
        words += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp"]
        words += ["--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"]
        words += ["--symlink", "/tmp", "/var/tmp"]
        words += self._system(cell.network)
        for name in ("passwd", "group", "hosts"):
            words += ["--ro-bind", str(room.tools / name), f"/etc/{name}"]
        words += ["--ro-bind", str(environment), INSIDE.environment]
        words += ["--ro-bind", str(room.tools), INSIDE.tools]
        for name in ("source", "wheels", "control", "home"):
            words += ["--bind", str(getattr(room, name)), getattr(INSIDE, name)]
        return [*words, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", INSIDE.source]

    def _system(self, network: bool) -> list[str]:
        words: list[str] = []
        for path in MERGED:
            if os.path.islink(path):
                words += ["--symlink", os.readlink(path), path]
            elif os.path.isdir(path):
                words += ["--ro-bind", path, path]
        places = (*SYSTEM, *self.interpreter.places, *self.readable)
        visible = [*places, *CONFIGURATION, *(FOR_NETWORK if network else ())]
        for place in dict.fromkeys(map(Path, visible)):
            # bubblewrap itself would make those above it as closed as they are outside.
            for parent in reversed(place.parents[:-1]):
                if not any(parent.is_relative_to(system) for system in SYSTEM):
                    words += ["--perms", "0755", "--dir", str(parent)]
            words += ["--ro-bind-try", str(place), str(place)]
        return words


def probe(interpreter: Interpreter, directory: Path, minimum: Level = Level.L0) -> Capabilities:
    """Find the strongest sandbox that works for *interpreter* with rooms below *directory*.

    Raise NoSandbox, naming the next step, if none of at least *minimum* does.
    """
    reasons: list[str] = []
    for level in sorted(Level, reverse=True):
        if level < minimum:
            break
        reason = _trial(Sandbox(interpreter, level), directory)
        if reason is None:
            return Capabilities(level, tuple(reasons))
        reasons.append(f"{level}: {reason}")
    raise NoSandbox("; ".join(reasons))


def _trial(sandbox: Sandbox, directory: Path) -> str | None:
    """Why *sandbox* does not work, None if it does: start the interpreter in it for once."""
    start = [str(sandbox.interpreter.python), "-I", "-S", "-c", "print('started')"]
    clock = Clock.start(TRIAL_SECONDS, threading.Event())
    try:
        with (
            open_room(directory) as room,
            sandbox.cell(room, Limits(), network=False) as cell,
            BuildLog(room.root / "log.txt") as log,
        ):
            cell.admit()
            if cell.run(start, room.tools, {}, clock, log) == 0:
                return None
            said = log.tail().strip().splitlines()[-1:] or ["it ends without a word"]
            return f"{one_line(said[0])}. {_advice(sandbox, directory)}"
    except BuildFailed as error:
        return error.failure.cause
    except (CannotChangeUser, NoSandbox) as error:
        return str(error)


def _advice(sandbox: Sandbox, directory: Path) -> str:
    if sandbox.level >= Level.L2:
        return (
            "Bubblewrap needs namespaces: allow them to unprivileged users"
            " (sysctl kernel.unprivileged_userns_clone=1), or to this container"
        )
    return (
        f"The build user must be able to read {sandbox.interpreter.python} and {directory}:"
        " move them to where everyone may, or install bubblewrap (apt install bubblewrap)"
    )


def _find(tool: str, package: str) -> str:
    found = shutil.which(tool)
    if found is None:
        raise NoSandbox(f"{tool} is missing: apt install {package}")
    return found


def _tmp_bytes(limits: Limits) -> int:
    """The size of /tmp, which is memory: a quarter of the machine's."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(limits.disk or LARGEST_TMP, memory // 4, LARGEST_TMP)


def _write_accounts(directory: Path, uid: int) -> None:
    """The few entries of /etc that programs look up about users and hosts."""
    (directory / "passwd").write_text(
        f"root:x:0:0::/root:/usr/sbin/nologin\nbuild:x:{uid}:{uid}::{INSIDE.home}:/bin/sh\n"
    )
    (directory / "group").write_text(f"root:x:0:\nbuild:x:{uid}:\n")
    (directory / "hosts").write_text("127.0.0.1 localhost build\n::1 localhost\n")
