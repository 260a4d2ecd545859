"""piw-slave: builds wheels for one interpreter, as its master asks."""

import argparse
import fcntl
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from piwheels.cli.options import (
    Parser,
    address,
    run,
    set_up_logging,
)
from piwheels.model.errors import BadConfiguration, PiwheelsError
from piwheels.processes.heart import Heart
from piwheels.processes.systemd import READY, Systemd, status
from piwheels.slave import interpreter, sandbox
from piwheels.slave.builder import Builder
from piwheels.slave.daemon import Daemon, Identity
from piwheels.slave.image import Image
from piwheels.slave.machine import has_compiler, health, resources
from piwheels.slave.session import Leave
from piwheels.slave.spool import Spool
from piwheels.slave.uploader import send_files

log = logging.getLogger(__name__)

DIRECTORY = "~/.cache/piwheels-slave"


def parser() -> Parser:
    """The options of piw-slave."""
    options = Parser("piw-slave", "Build wheels for one interpreter, as a master asks.")
    options.add_argument(
        "-m", "--master", metavar="HOST", default="localhost", help="where piw-master runs"
    )
    options.add_argument(
        "--slave-queue", type=address, metavar="ADDR", help="instead of tcp://HOST:5555"
    )
    options.add_argument(
        "--file-queue", type=address, metavar="ADDR", help="instead of tcp://HOST:5556"
    )
    options.add_argument(
        "-p",
        "--python",
        metavar="PATH",
        default=sys.executable,
        help="the interpreter to build for, by path or name",
    )
    options.add_argument(
        "-d", "--dir", metavar="DIR", default=DIRECTORY, help="for builds, results and caches"
    )
    options.add_argument(
        "-L", "--label", metavar="STR", default=socket.gethostname(), help="of this slave"
    )
    options.add_argument(
        "--sandbox",
        choices=[str(level) for level in sandbox.Level],
        default=str(sandbox.Level.L0),
        help="the weakest sandbox to accept",
    )
    options.add_argument(
        "--readable",
        metavar="PATH",
        action="append",
        default=[],
        help="more of the system that builds may read, e.g. a toolchain in /opt (repeatable)",
    )
    options.add_argument("--debug", action="store_true", help="the same as --verbose")
    return options


def main() -> int:
    """Run piw-slave."""
    return run(_main)


def _main() -> int:
    options = parser().parse()
    options.verbose = options.verbose or options.debug
    set_up_logging(options, f"slave {options.label}")
    if not re.fullmatch(r"[^\x00-\x1f\x7f]{1,80}", options.label):
        raise BadConfiguration("--label is a name of 1 to 80 characters on one line")
    directory = Path(options.dir).expanduser()
    with _sole_use_of(directory):
        parting = _serve(options, directory)
    if parting.is_final:
        raise BadConfiguration(f"the master sent this slave away: {parting.reason}")
    if parting.reason:
        raise PiwheelsError(parting.reason)
    return 0


def _serve(options: argparse.Namespace, directory: Path) -> Leave:
    """Be a slave until somebody ends it; return why."""
    python = interpreter.probe(options.python)
    found = sandbox.probe(python, directory / "builds", sandbox.Level(options.sandbox))
    for reason in found.reasons:
        log.warning("sandbox %s; not stronger: %s", found.level, reason)
    if not has_compiler():
        log.warning(
            "no C compiler here: packages with C code will fail; apt install build-essential"
        )
    cell = sandbox.Sandbox(python, found.level, [Path(path) for path in options.readable])
    image = Image(python)
    master = f"[{options.master}]" if ":" in options.master else options.master
    daemon = Daemon(
        address=options.slave_queue or f"tcp://{master}:5555",
        identity=Identity(options.label, python.offer),
        builder=Builder(directory, python, cell),
        upload=partial(send_files, options.file_queue or f"tcp://{master}:5556"),
        spool=Spool(directory / "spool"),
        resources=lambda: resources(directory, str(found.level), image.digest()),
        health=partial(health, directory),
    )
    signal.signal(signal.SIGTERM, lambda *_: daemon.quit())
    signal.signal(signal.SIGINT, lambda *_: daemon.quit())
    log.info("building for %s in sandbox %s", python.offer.name, found.level)
    systemd = Systemd.from_environment()
    systemd.notify(READY, status(f"building for {python.offer.name}"))
    Heart.from_environment().ready()
    return daemon.run()


@contextmanager
def _sole_use_of(directory: Path) -> Iterator[None]:
    """Keep every other slave out of *directory*."""
    try:
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PiwheelsError(
            f"cannot write to {error.filename}: {error.strerror}; choose another --dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise PiwheelsError(
            f"another slave uses {directory}: give each its own --dir and --label"
        ) from None
    try:
        yield
    finally:
        os.close(lock)
