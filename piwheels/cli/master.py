"""piw-master: starts the master's services and keeps them running."""

import argparse
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

from pypi_simple import PYPI_SIMPLE_ENDPOINT
from sqlalchemy import Engine

from piwheels.cli.options import (
    FILE_QUEUE,
    SLAVE_QUEUE,
    BadUsage,
    Parser,
    add_queue,
    address,
    duration,
    queue_address,
    run,
    set_up_logging,
    size,
)
from piwheels.database import schema
from piwheels.database.connection import connect
from piwheels.index.pages import Site
from piwheels.master.admin import Admin
from piwheels.master.dispatcher import Dispatcher
from piwheels.master.keeper import Keeper
from piwheels.master.publisher import Publisher
from piwheels.master.receiver import Receiver
from piwheels.master.status import Status
from piwheels.master.tracker import Settings as TrackerSettings
from piwheels.master.tracker import Tracker
from piwheels.master.turn import Settings
from piwheels.model.builds import Limits
from piwheels.model.errors import BadConfiguration
from piwheels.model.following import Mode
from piwheels.processes.child import Child
from piwheels.processes.heart import Heart
from piwheels.processes.supervisor import Event, Supervisor
from piwheels.processes.systemd import READY, Systemd, status
from piwheels.pypi import Journal, PyPI, journal_url
from piwheels.rules.following import BadMode, read_mode
from piwheels.rules.slave_session import Timing

log = logging.getLogger(__name__)

OUTPUT = "~/www"
SILENCE = 60.0  # seconds without a beat after which a service is killed and started again

PROBING = frozenset({"dispatcher", "keeper"})  # services that never read a table as a whole

Beat = Callable[[], None]

Service = Callable[[Engine, threading.Event, Beat], None]


def parser() -> Parser:
    """The options of piw-master."""
    options = Parser(
        "piw-master",
        "Follow PyPI, hand builds to slaves, take their wheels and write the index.",
    )
    options.add_argument(
        "-d", "--dsn", default="postgresql:///piwheels", help="address of the database"
    )
    options.add_argument(
        "-o", "--output-path", metavar="PATH", default=OUTPUT, help="where the web tree is written"
    )
    options.add_argument(
        "--service",
        action="append",
        metavar="NAME",
        default=None,
        help="run only this service (repeatable); one alone runs without a supervisor",
    )
    options.add_argument(
        "--debug", action="append", metavar="SERVICE", default=[], help="log its every detail"
    )
    options.add_argument(
        "--publishers", type=int, default=1, metavar="N", help="processes that write pages"
    )
    options.add_argument(
        "--slave-queue", type=address, default=SLAVE_QUEUE, metavar="ADDR", help="of slaves"
    )
    options.add_argument(
        "--file-queue", type=address, default=FILE_QUEUE, metavar="ADDR", help="of their files"
    )
    add_queue(options, "import", "of administrators' tools")
    add_queue(options, "status", "of monitors")
    add_queue(options, "control", "of tools that steer slaves")
    options.add_argument(
        "--pypi-simple", metavar="URL", default=PYPI_SIMPLE_ENDPOINT, help="PyPI's simple index"
    )
    _add_following(options)
    options.add_argument("--site-name", metavar="TEXT", default="Wheel farm", help="for pages")
    options.add_argument(
        "--site-url", metavar="URL", default="", help="where users find the web tree"
    )
    options.add_argument(
        "--build-index",
        action="append",
        metavar="URL",
        default=[],
        help="simple index that build requirements may come from beside PyPI (repeatable)",
    )
    options.add_argument(
        "--allow-network", action="store_true", help="let builds reach the network"
    )
    options.add_argument(
        "--hold-new-targets",
        action="store_true",
        help="build nothing for a new target until an administrator activates it",
    )
    options.add_argument(
        "--build-time", type=duration, default=3 * 3600.0, metavar="DURATION", help="of one build"
    )
    options.add_argument(
        "--build-silence",
        type=duration,
        default=3600.0,
        metavar="DURATION",
        help="that a build may write nothing",
    )
    options.add_argument(
        "--build-memory", type=size, default=0, metavar="SIZE", help="of one process of a build"
    )
    options.add_argument(
        "--build-output", type=size, default=64 * 1024**2, metavar="SIZE", help="of a build's log"
    )
    options.add_argument(
        "--heartbeat", type=duration, default=15.0, metavar="DURATION", help="of slaves"
    )
    options.add_argument(
        "--lease",
        type=duration,
        default=120.0,
        metavar="DURATION",
        help="after which a silent slave loses its build",
    )
    return options


def _add_following(options: Parser) -> None:
    """What of PyPI is followed, and how often it is asked."""
    options.add_argument(
        "--pypi-xmlrpc", metavar="URL", default="", help="PyPI's journal, if not beside its index"
    )
    options.add_argument(
        "--follow",
        type=_mode,
        default="listed",
        metavar="WHAT",
        help="whose new versions are built: all, listed (what was added), listed+dependencies, "
        "top:N (the N most popular as well)",
    )
    options.add_argument(
        "--popularity", metavar="SOURCE", default="", help="file or URL of download counts"
    )
    options.add_argument(
        "--pypi-readers", type=int, default=4, metavar="N", help="pages asked for at once"
    )
    times = {
        "journal-pause": (5.0, "between two looks into PyPI's journal"),
        "reread": (30 * 86_400.0, "after which each page is read again, journal or not"),
        "poll": (3_600.0, "after which each page is read again where there is no journal"),
        "poll-pause": (1.0, "between two pages that are read again"),
        "compare": (86_400.0, "between two comparisons with PyPI's list, or counts of downloads"),
        "grace": (86_400.0, "for which files of projects that PyPI deleted stay on disk"),
    }
    for name, (seconds, what) in times.items():
        options.add_argument(
            f"--{name}", type=duration, default=seconds, metavar="DURATION", help=what
        )


def _mode(text: str) -> Mode:
    try:
        return read_mode(text)
    except BadMode as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def services(options: argparse.Namespace) -> dict[str, Service]:
    """Every service by its name, each to be called in its own process."""
    output = Path(options.output_path).expanduser()
    site = Site(options.site_name, options.site_url, urljoin(options.pypi_simple, "/"))
    found: dict[str, Service] = {
        "dispatcher": partial(_dispatcher, options.slave_queue, _settings(options)),
        "receiver": partial(_receiver, options.file_queue, output),
        "keeper": lambda engine, stop, beat: Keeper(engine, _timing(options)).serve(
            stop.is_set, beat
        ),
        "admin": partial(_admin, queue_address(options, "import"), options.pypi_simple),
        "tracker": partial(_tracker, options),
        "status": partial(
            _status, queue_address(options, "status"), queue_address(options, "control")
        ),
    }
    for number in range(options.publishers):
        name = "publisher" if number == 0 else f"publisher-{number + 1}"
        found[name] = partial(_publisher, output, site)
    return found


def _timing(options: argparse.Namespace) -> Timing:
    # All in proportion: who wants lost slaves noticed soon wants lost answers noticed soon.
    return Timing(
        heartbeat=options.heartbeat,
        silence=options.heartbeat * 4 / 3,
        lease=options.lease,
        patience=options.heartbeat * 2 / 3,
    )


def _settings(options: argparse.Namespace) -> Settings:
    if options.lease < 3 * options.heartbeat:
        raise BadConfiguration("--lease must be at least three times --heartbeat")
    return Settings(
        timing=_timing(options),
        limits=Limits(
            seconds=options.build_time,
            silence=options.build_silence,
            memory=options.build_memory,
            output=options.build_output,
        ),
        allow_network=options.allow_network,
        index_urls=tuple(options.build_index),
        activate_new_targets=not options.hold_new_targets,
    )


def _dispatcher(
    address: str, settings: Settings, engine: Engine, stop: threading.Event, beat: Beat
) -> None:
    Dispatcher(engine, address, settings).serve(stop.is_set, beat)


def _receiver(
    address: str, output: Path, engine: Engine, stop: threading.Event, beat: Beat
) -> None:
    Receiver(engine, output, address, output / ".staging").serve(stop.is_set, beat)


def _publisher(output: Path, site: Site, engine: Engine, stop: threading.Event, beat: Beat) -> None:
    Publisher(engine, output, site).serve(stop.is_set, beat)


def _admin(address: str, pypi: str, engine: Engine, stop: threading.Event, beat: Beat) -> None:
    with PyPI(pypi) as client:
        Admin(engine, client, address).serve(stop.is_set, beat)


def _tracker(
    options: argparse.Namespace, engine: Engine, stop: threading.Event, beat: Beat
) -> None:
    settings = TrackerSettings(
        mode=options.follow,
        readers=options.pypi_readers,
        journal=options.journal_pause,
        reread=options.reread,
        poll=options.poll,
        poll_pause=options.poll_pause,
        compare=options.compare,
        popularity=options.popularity,
        grace=options.grace,
    )
    url = options.pypi_xmlrpc or journal_url(options.pypi_simple)
    pypi = PyPI(options.pypi_simple, connections=options.pypi_readers + 1)
    with pypi, Journal(url) as journal:
        Tracker(engine, pypi, journal, settings).serve(stop.is_set, beat)


def _status(address: str, control: str, engine: Engine, stop: threading.Event, beat: Beat) -> None:
    Status(engine, address, control).serve(stop.is_set, beat)


def _serve(name: str, service: Service, options: argparse.Namespace, heart: Heart) -> None:
    """Be one service until SIGTERM, in a process of its own."""
    options.verbose = options.verbose or name in options.debug
    set_up_logging(options, name)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    engine = connect(options.dsn, is_probing=name in PROBING)
    is_first_beat = True

    def beat() -> None:
        nonlocal is_first_beat
        if is_first_beat:
            heart.ready()
            is_first_beat = False
        heart.beat()

    service(engine, stop, beat)
    engine.dispose()


def _chosen(options: argparse.Namespace) -> Mapping[str, Service]:
    known = services(options)
    names = options.service or list(known)
    for name in [*names, *options.debug]:
        if name not in known:
            raise BadUsage(f"there is no service {name!r}; there are {', '.join(known)}")
    return {name: known[name] for name in names}


def _tell(event: Event) -> None:
    log.info("%s", event)


def main() -> int:
    """Run piw-master."""
    return run(_main)


def _main() -> int:
    options = parser().parse()
    chosen = _chosen(options)
    set_up_logging(options, "master")
    _check(options)
    if options.service and len(chosen) == 1:
        ((name, service),) = chosen.items()
        _serve(name, service, options, Heart.from_environment())
        return 0
    return _supervise(chosen, options)


def _check(options: argparse.Namespace) -> None:
    """Refuse to start where no service could work."""
    output = Path(options.output_path).expanduser()
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / ".staging").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise BadConfiguration(
            f"cannot write to {error.filename}: {error.strerror}; check --output-path"
        ) from error
    engine = connect(options.dsn)
    schema.check(engine)
    engine.dispose()


def _supervise(chosen: Mapping[str, Service], options: argparse.Namespace) -> int:
    systemd = Systemd.from_environment()
    heart = Heart.from_environment()

    def ready() -> None:
        log.info("all services are ready")
        systemd.notify(READY, status("all services are ready"))
        heart.ready()

    children = [
        Child(name, partial(_serve, name, service, options), reports_ready=True, silence=SILENCE)
        for name, service in chosen.items()
    ]
    supervisor = Supervisor(
        children,
        on_event=_tell,
        on_ready=ready,
        notify=systemd.notify,
        watchdog=systemd.watchdog,
    )
    if supervisor.run():
        raise BadConfiguration(supervisor.last_words)
    return 0
