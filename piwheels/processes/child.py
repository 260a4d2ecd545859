"""What a supervisor starts, and how: a function in a fork of itself, or another program."""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from piwheels.model.errors import BadConfiguration
from piwheels.processes.heart import VARIABLE, Heart, HeartMonitor, heart_pipe
from piwheels.processes.prctl import die_with_parent

_NOT_STARTED = 127  # as shells say it
_LAST_LINES = 4096


class Restart(Enum):
    """What follows the end of a child that nobody asked to end."""

    ALWAYS = "always"
    ON_FAILURE = "on failure"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Command:
    """Another program. environment: all of it; None: the supervisor's own.

    log: file that its output is added to, made with mode 0600; None: the supervisor's output.
    prepare: runs in the new process just before the program.
    """

    words: Sequence[str]
    environment: Mapping[str, str] | None = None
    directory: Path | None = None
    log: Path | None = None
    prepare: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running.

    start: a function, which gets the heart to speak through, or a command, which finds it in
    the environment. reports_ready: whether it says when it is; else it is as soon as it runs.
    silence: seconds after a beat within which another must follow, or it is killed.
    stop_signal: asks it to end, and is also sent should the supervisor itself be killed.
    stops_last: whether the others need it until their own end, as they need a database.
    """

    name: str
    start: Callable[[Heart], object] | Command
    restart: Restart = Restart.ALWAYS
    reports_ready: bool = False
    silence: float | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stops_last: bool = False


def start(child: Child) -> tuple[int, HeartMonitor]:
    """Fork the child's process, in a session of its own. Return its pid and the heart to hear.

    Call it only while this process has one thread: the new one has the memory of all threads
    and the locks that they held, but none of them to release these.
    """
    parent = os.getpid()
    monitor, voice = heart_pipe()
    if not isinstance(child.start, Command):
        # What is frozen the collector never touches, so that its pages stay shared for good.
        gc.freeze()
    _flush()  # else both processes would write what is buffered
    # A signal between fork and _forget_signals would run the parent's handlers in the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            os.close(monitor.fd)
            _run(child, parent, voice, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(voice)
    return pid, monitor


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(-min(_LAST_LINES, log.stat().st_size), os.SEEK_END)
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _run(child: Child, parent: int, voice: int, mask: set[int | signal.Signals]) -> None:
    """Be the child, and never return."""
    status = _NOT_STARTED
    try:
        os.setsid()  # Ctrl+C in the terminal is for the supervisor, which then ends us in order
        _forget_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        die_with_parent(parent, child.stop_signal)
        _close_input()
        if isinstance(child.start, Command):
            _execute(child.start, Heart(voice))
        else:
            status = _call(child.start, Heart(voice))
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def _call(function: Callable[[Heart], object], heart: Heart) -> int:
    """Return the exit status that the function's result stands for."""
    gc.enable()
    try:
        function(heart)
    except BadConfiguration as error:
        heart.last_words(str(error))
        return os.EX_CONFIG
    except SystemExit as error:
        return _status(error)
    except BaseException as error:
        traceback.print_exc()
        heart.last_words("".join(traceback.format_exception_only(error)))
        return os.EX_SOFTWARE
    return os.EX_OK


def _status(exit_: SystemExit) -> int:
    """Return what the interpreter would exit with."""
    if exit_.code is None or isinstance(exit_.code, int):
        return (exit_.code or 0) & 0xFF
    print(exit_.code, file=sys.stderr)
    return 1


def _execute(command: Command, heart: Heart) -> None:
    try:
        if command.directory is not None:
            os.chdir(command.directory)
        if command.log is not None:
            _write_to(command.log)
        environment = dict(os.environ if command.environment is None else command.environment)
        if heart.fd is not None:
            os.set_inheritable(heart.fd, True)
            environment[VARIABLE] = str(heart.fd)
        if command.prepare is not None:
            command.prepare()
        # Python ignores it; programs would be surprised to.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(command.words[0], list(command.words), environment)
    except OSError as error:
        heart.last_words(f"cannot run {command.words[0]}: {error}")
        print(f"cannot run {command.words[0]}: {error}", file=sys.stderr)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _forget_signals() -> None:
    """Give the parent's handlers up; what was ignored (nohup) stays ignored."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _close_input() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _write_to(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
