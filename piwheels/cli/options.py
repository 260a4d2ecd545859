"""The one place for options: files, environment, command line, and how every command ends."""

import argparse
import configparser
import logging
import logging.handlers
import os
import re
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import configargparse

from piwheels import __version__
from piwheels.model.errors import BadConfiguration, PiwheelsError

DEFAULT_FILES = (
    "/etc/piwheels.conf",
    "/usr/local/etc/piwheels.conf",
    "~/.config/piwheels/piwheels.conf",
)
ENVIRONMENT_PREFIX = "PIW_"

SLAVE_QUEUE = "tcp://127.0.0.1:5555"
FILE_QUEUE = "tcp://127.0.0.1:5556"
LONGEST_SOCKET_PATH = 107  # bytes; the kernel's limit for a local socket

FAILED = 1  # exit statuses
USAGE = 2
CONFIGURATION = os.EX_CONFIG
INTERRUPTED = 128 + signal.SIGINT
BROKEN_PIPE = 128 + signal.SIGPIPE

TRUTHS = ("true", "yes", "on", "1", "false", "no", "off", "0")
DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw]?)", re.IGNORECASE)
SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


class BadUsage(PiwheelsError):
    """A command line that cannot be meant."""


# Parsing


class Parser(configargparse.ArgumentParser):  # type: ignore[misc]  # it has no types
    """The options of one command; those common to all are there already.

    The last of these wins: the files' [DEFAULT], their section named *command* without
    piw-, PIW_<OPTION> in the environment, the command line.
    """

    def __init__(self, command: str, description: str) -> None:
        self.section = command.removeprefix("piw-")
        super().__init__(
            prog=command,
            description=description,
            auto_env_var_prefix=ENVIRONMENT_PREFIX,
            add_config_file_help=False,
            add_env_var_help=False,
            allow_abbrev=False,
            parents=[_common()],
            conflict_handler="resolve",
            epilog=(
                f"Options may also be given in {', '.join(DEFAULT_FILES)}, section "
                f"[{self.section}] or [DEFAULT], and as {ENVIRONMENT_PREFIX}<OPTION> in the "
                "environment."
            ),
        )

    def parse(
        self,
        arguments: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> argparse.Namespace:
        """Read all sources. Raise BadConfiguration; exit with 2 on a bad command line."""
        command_line = list(sys.argv[1:] if arguments is None else arguments)
        environment = os.environ if environment is None else environment
        settings = _Settings(self, self.section)
        for variable, option in settings.by_variable().items():
            if variable in environment:
                settings.check(option, environment[variable], f"{variable} in the environment")
        asked = _common().parse_known_args(command_line)[0].configuration
        files = {} if _asks_for_help(command_line) else settings.read(_files(asked))
        self._config_file_parser = _Merged(files)
        options: argparse.Namespace = self.parse_args(
            command_line, config_file_contents="", env_vars=environment
        )
        if options.configuration != asked:
            self.error("write -c FILE apart from other short options")
        return options


def _files(asked: str | None) -> list[Path]:
    """The default files that are there, or just the one that was asked for."""
    if asked is None:
        return [path for name in DEFAULT_FILES if (path := Path(name).expanduser()).is_file()]
    path = Path(asked).expanduser()
    if not path.is_file():
        raise BadConfiguration(f"there is no configuration file {path}: check --configuration")
    return [path]


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--version", action="version", version=__version__)
    common.add_argument(
        "-c", "--configuration", metavar="FILE", help="read this file instead of the default ones"
    )
    common.add_argument("-q", "--quiet", action="store_true", help="log only what went wrong")
    common.add_argument("-v", "--verbose", action="store_true", help="log every detail")
    common.add_argument("-l", "--log-file", metavar="FILE", help="log to this file too")
    return common


def _asks_for_help(command_line: Sequence[str]) -> bool:
    return not {"-h", "--help"}.isdisjoint(command_line)


class _Merged(configargparse.ConfigFileParser):  # type: ignore[misc]
    """What the files say, read and checked before ConfigArgParse weighs it."""

    def __init__(self, settings: Mapping[str, str | list[str]]) -> None:
        self.settings = settings

    def parse(self, stream: object) -> Mapping[str, str | list[str]]:
        """The settings of all files together."""
        return self.settings


class _Settings:
    """The options of one command as files and the environment name them."""

    def __init__(self, parser: Parser, section: str) -> None:
        self.section = section
        self.by_key = {
            name.removeprefix("--"): action
            for action in parser._actions
            for name in action.option_strings
            if name.startswith("--") and _may_be_set(action)
        }

    def by_variable(self) -> dict[str, argparse.Action]:
        """Options by their names in the environment."""
        return {
            ENVIRONMENT_PREFIX + key.replace("-", "_").upper(): action
            for key, action in self.by_key.items()
        }

    def read(self, files: Iterable[Path]) -> dict[str, str | list[str]]:
        """What *files* say, later ones winning. Raise BadConfiguration."""
        settings: dict[str, str | list[str]] = {}
        for path in files:
            settings.update(self._read_file(path))
        return settings

    def _read_file(self, path: Path) -> dict[str, str | list[str]]:
        # Without a default section, what stands in [DEFAULT] can be told from what does not.
        file = configparser.ConfigParser(interpolation=None, default_section="")
        try:
            file.read_string(path.read_text(encoding="utf-8"), source=str(path))
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            raise BadConfiguration(f"cannot read {path}: {_one_line(error)}") from error
        own = dict(file[self.section]) if self.section in file else {}
        for key in own:
            if key not in self.by_key:
                raise BadConfiguration(self._unknown(path, key))
        shared = dict(file["DEFAULT"]) if "DEFAULT" in file else {}
        known = {key: text for key, text in shared.items() if key in self.by_key} | own
        where = f"{path}, section [{self.section}]"
        return {key: self.check(self.by_key[key], text, where) for key, text in known.items()}

    def _unknown(self, path: Path, key: str) -> str:
        near = get_close_matches(key, self.by_key, 1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(self.by_key))}"
        return f"{path}, section [{self.section}]: there is no option {key}; {hint}"

    def check(self, option: argparse.Action, text: str, where: str) -> str | list[str]:
        """Return *text* as ConfigArgParse wants it. Raise BadConfiguration if it cannot be."""
        name = option.option_strings[-1].removeprefix("--")
        if option.nargs == 0:
            if text.lower() not in TRUTHS:
                raise BadConfiguration(f"{where}: {name} is yes or no, not {text!r}")
            return text
        values = text.splitlines() if isinstance(option, argparse._AppendAction) else [text]
        values = [value.strip() for value in values if value.strip()] or [""]
        for value in values:
            self._check_value(option, value, f"{where}: {name}")
        return values if isinstance(option, argparse._AppendAction) else values[0]

    @staticmethod
    def _check_value(option: argparse.Action, text: str, where: str) -> None:
        try:
            value = option.type(text) if callable(option.type) else text
        except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
            raise BadConfiguration(f"{where}: {_one_line(error)}") from error
        if option.choices is not None and value not in option.choices:
            choices = ", ".join(map(str, option.choices))
            raise BadConfiguration(f"{where} is one of {choices}, not {text!r}")


def _may_be_set(action: argparse.Action) -> bool:
    """Whether files and the environment may give it: neither files nor what ends the command."""
    return action.dest != "configuration" and action.default is not argparse.SUPPRESS


# Values


def duration(text: str) -> float:
    """Read 3h, 90m, 10s, 1h30m or a number of seconds; return seconds."""
    parts = DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write it as 3h, 90m or 10s")
    return sum(float(number) * SECONDS[unit.lower()] for number, unit in parts)


def size(text: str) -> int:
    """Read 512M, 2G, 1.5GiB or a number of bytes; return bytes. Units are powers of 1024."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write it as 512M or 2G")
    return int(float(match[1]) * BYTES[match[2].lower()])


def address(text: str) -> str:
    """Check the address of a socket."""
    if not re.fullmatch(r"(tcp|ipc)://\S+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address: write it as tcp://127.0.0.1:5555 or ipc:///run/queue"
        )
    path = text.partition("ipc://")[2].encode()
    if len(path) > LONGEST_SOCKET_PATH:
        raise argparse.ArgumentTypeError(
            f"the path of {text} has {len(path)} bytes; a local socket's may have "
            f"{LONGEST_SOCKET_PATH}: choose a shorter one"
        )
    return text


# Sockets of this host


def add_queue(parser: Parser, name: str, what: str, default: str | None = None) -> None:
    """Add ``--<name>-queue ADDR``; None: ``queue_address`` finds a place on this host."""
    where = default or f"{name}-queue in the private runtime directory"
    text = f"{what} (default: {where})"
    parser.add_argument(f"--{name}-queue", metavar="ADDR", type=address, default=default, help=text)


def queue_address(options: argparse.Namespace, name: str) -> str:
    """The address of queue *name*: as given, or a socket in the private runtime directory."""
    given: str | None = getattr(options, f"{name}_queue")
    if given is not None:
        return given
    try:
        return address(f"ipc://{runtime_directory() / f'{name}-queue'}")
    except argparse.ArgumentTypeError as error:
        raise BadConfiguration(f"{error}, with --{name}-queue") from error


def runtime_directory() -> Path:
    """The user's private directory for sockets. Raise BadConfiguration."""
    return private_directory(_runtime_path())


def private_directory(path: Path) -> Path:
    """Return *path*, a directory that only this user may enter, made if it is not there.

    Raise BadConfiguration if somebody else could have put something there.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise BadConfiguration(
            f"cannot make the runtime directory {path}: {error.strerror}; "
            "set XDG_RUNTIME_DIR to a directory of your own"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise BadConfiguration(
            f"the runtime directory {path} is not this user's own: run this as its owner, "
            "or give the queues' addresses as options"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BadConfiguration(f"others may write to the runtime directory {path}: remove it")
    path.chmod(0o700)
    return path


def _runtime_path() -> Path:
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given:
        return Path(given) / "piwheels"
    if os.geteuid() == 0:
        return Path("/run/piwheels")
    return Path(tempfile.gettempdir()) / f"piwheels-{os.geteuid()}"


# Logging


def set_up_logging(options: argparse.Namespace, service: str) -> None:
    """Log to standard error, and to a file if asked: one line per event, times in UTC."""
    level = logging.DEBUG if options.verbose else logging.INFO
    level = logging.WARNING if options.quiet else level
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setFormatter(_Lines(service, has_time=not _is_journal()))
    if options.log_file:
        handlers.append(_log_file(options.log_file))
        handlers[1].setFormatter(_Lines(service, has_time=True))
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.captureWarnings(True)


class _Lines(logging.Formatter):
    """One line per event, even for one with a traceback."""

    converter = staticmethod(time.gmtime)

    def __init__(self, service: str, has_time: bool) -> None:
        when = "%(asctime)s.%(msecs)03dZ " if has_time else ""
        what = "%(levelname)s %(message)s"
        super().__init__(f"{when}{service} {what}", datefmt="%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The event on one line."""
        return " | ".join(super().format(record).splitlines())


def _is_journal() -> bool:
    """Whether standard error is the journal, which knows the time itself."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _log_file(name: str) -> logging.Handler:
    try:
        return logging.handlers.WatchedFileHandler(Path(name).expanduser(), encoding="utf-8")
    except OSError as error:
        raise BadConfiguration(
            f"cannot write the log file {name}: {error.strerror}; check --log-file"
        ) from error


# Running


def run(main: Callable[[], int | None]) -> int:
    """Run *main*; return the exit status. What is foreseen becomes one line, no traceback."""
    try:
        status = main() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Else Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except PiwheelsError as error:
        print(f"{Path(sys.argv[0]).name}: {_one_line(error)}", file=sys.stderr)
        return _status_of(error)
    return status


def fail(reason: str, hint: str = "") -> NoReturn:
    """End the command with status 2: the command line cannot be meant. Raise BadUsage."""
    raise BadUsage(f"{reason}: {hint}" if hint else reason)


def confirm(question: str, is_sure: bool) -> bool:
    """Ask *question*; no need if *is_sure* (--yes). Raise BadUsage if nobody can answer."""
    if is_sure:
        return True
    if not sys.stdin.isatty():
        raise BadUsage(f"{question} Nobody is here to ask: say --yes")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def add_yes(parser: Parser) -> None:
    """Add -y/--yes."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask, do it")


def _status_of(error: PiwheelsError) -> int:
    if isinstance(error, BadConfiguration):
        return CONFIGURATION
    return USAGE if isinstance(error, BadUsage) else FAILED


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
