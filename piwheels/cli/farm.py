"""piw-farm: a whole farm on this machine, in one command."""

import argparse
import logging
import shutil
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import platformdirs
from pypi_simple import PYPI_SIMPLE_ENDPOINT
from rich.console import Console as Screen
from rich.markup import escape

from piwheels.cli.add import read_requirement
from piwheels.cli.options import BadUsage, Parser, run, runtime_directory, set_up_logging
from piwheels.database import schema
from piwheels.farm import web
from piwheels.farm.console import Console, Farm
from piwheels.farm.layout import Layout
from piwheels.farm.postgres import EmbeddedPostgres
from piwheels.model.errors import PiwheelsError
from piwheels.processes.child import Child, Command, Restart
from piwheels.processes.heart import Heart
from piwheels.processes.privileges import is_root
from piwheels.processes.supervisor import Died, Event, Stopping, Supervisor, Unkillable
from piwheels.protocol.admin import Add
from piwheels.slave import interpreter
from piwheels.slave.interpreter import Interpreter
from piwheels.slave.machine import has_compiler

log = logging.getLogger(__name__)

HOST = "localhost"
DATABASE, ROLE = "piwheels", "piwheels"
STARTING_SECONDS = 60.0
GRACE = 8.0  # seconds for everything to end after Ctrl+C


@dataclass(frozen=True, slots=True)
class Slave:
    """One slave of this farm."""

    label: str
    interpreter: Interpreter


def parser() -> Parser:
    """The options of piw-farm."""
    options = Parser(
        "piw-farm",
        "Run a whole farm on this machine: database, master, slaves and web server.",
    )
    options.add_argument(
        "requirements",
        nargs="*",
        metavar="REQUIREMENT",
        help="what to build, e.g. numpy or six==1.16.0",
    )
    options.add_argument(
        "--python",
        action="append",
        metavar="PATH",
        default=None,
        help="an interpreter to build for, by path or name (repeatable; default: this one)",
    )
    options.add_argument(
        "--port",
        type=int,
        default=8080,
        metavar="PORT",
        help="of the web server (8080); 0: any free one",
    )
    options.add_argument(
        "--data",
        metavar="DIR",
        default=str(platformdirs.user_data_path("piwheels")),
        help="where everything is kept (%(default)s)",
    )
    options.add_argument(
        "--exit", action="store_true", help="leave when all is built; 1 if anything failed"
    )
    options.add_argument(
        "--pypi",
        metavar="URL",
        default=PYPI_SIMPLE_ENDPOINT,
        help="the simple index that sources come from",
    )
    return options


def main() -> int:
    """Run piw-farm."""
    return run(_main)


def _main() -> int:
    options = parser().parse()
    options.quiet = not options.verbose
    set_up_logging(options, "farm")
    screen = Screen(highlight=False)
    requests = list(_requests(options.requirements, is_once=options.exit))
    slaves = _slaves(options.python or [sys.executable])
    layout = Layout(Path(options.data).expanduser().absolute(), runtime_directory())
    with web.listen(HOST, options.port) as listener:
        options.port = listener.getsockname()[1]  # 0 stood for any free one
        layout.make()
        _warn(screen)
        return _run(options, layout, slaves, requests, listener, screen)


def _requests(requirements: Iterable[str], is_once: bool) -> Iterator[tuple[str, Add]]:
    """A farm that is to leave when all is built follows nothing: it would never be done."""
    for requirement in requirements:
        yield requirement, Add(*read_requirement(requirement), is_once=is_once)


def _slaves(pythons: Sequence[str]) -> list[Slave]:
    """One slave for each interpreter. Raise NoInterpreter, BadUsage."""
    found: dict[str, Slave] = {}
    for python in pythons:
        probed = interpreter.probe(python)
        label = probed.name
        if label in found:
            raise BadUsage(
                f"{python} and {found[label].interpreter.python} build the same wheels, "
                f"for {label}: name one of them"
            )
        found[label] = Slave(label, probed)
    return list(found.values())


def _warn(screen: Screen) -> None:
    """Say what builds will miss on this machine."""
    if not has_compiler():
        screen.print(
            "[yellow]There is no C compiler here:[/] packages with C code will fail.\n"
            "  [green]→[/] apt install build-essential python3-dev"
        )
    if shutil.which("bwrap") is None:
        user = "a user of their own" if is_root() else "your own user, with your files in reach"
        screen.print(
            f"[yellow]There is no bubblewrap here:[/] builds run as {user}.\n"
            "  [green]→[/] apt install bubblewrap"
        )


def _run(
    options: argparse.Namespace,
    layout: Layout,
    slaves: Sequence[Slave],
    requests: Sequence[tuple[str, Add]],
    listener: socket.socket,
    screen: Screen,
) -> int:
    """Run the farm until it is told to end, or is done; return the exit status."""
    postgres = EmbeddedPostgres(layout.database)
    watch = _Watch(screen, layout)
    with Supervisor(grace=GRACE, on_event=watch.see) as supervisor:
        # No spinner here: it would be a thread, and a process with threads must not fork.
        screen.print(f"[dim]Starting a farm in {escape(str(layout.data))}[/]", soft_wrap=True)
        postgres.prepare()
        supervisor.add(postgres.child())
        postgres.wait_until_ready(STARTING_SECONDS, pause=partial(_go_on, supervisor))
        _initialize(postgres)
        layout.write_configuration(_configuration(options, layout, postgres))
        for child in _services(layout, slaves, listener):
            supervisor.add(child)
        _await(supervisor, ["master", "web"])
        _introduce(screen, options, layout)
        supervisor.add(_console(options, layout, len(slaves), requests, screen))
        while supervisor.poll():
            if watch.console_status is not None:
                supervisor.stop("the console is done", watch.console_status)
    if supervisor.last_words:
        raise PiwheelsError(supervisor.last_words)
    if watch.console_status is not None:
        _part(screen, options, layout)
    return supervisor.status


def _go_on(supervisor: Supervisor, seconds: float) -> None:
    """Poll for so long. Raise PiwheelsError if the farm ends instead."""
    if not supervisor.poll(seconds):
        raise PiwheelsError(supervisor.last_words or "the farm was told to end")


def _await(supervisor: Supervisor, names: Sequence[str]) -> None:
    """Poll until all of *names* are ready. Raise PiwheelsError if that takes too long."""
    deadline = time.monotonic() + STARTING_SECONDS
    while not all(map(supervisor.is_ready, names)):
        _go_on(supervisor, 0.5)
        if time.monotonic() > deadline:
            late = ", ".join(name for name in names if not supervisor.is_ready(name))
            raise PiwheelsError(f"not ready after {STARTING_SECONDS:.0f} s: {late}; see the logs")


def _initialize(postgres: EmbeddedPostgres) -> None:
    postgres.ensure_database(DATABASE)
    postgres.ensure_role(ROLE)
    schema.initialize(postgres.dsn(DATABASE), ROLE)


def _configuration(
    options: argparse.Namespace, layout: Layout, postgres: EmbeddedPostgres
) -> dict[str, dict[str, str]]:
    url = _url(options)
    queues = {
        f"{name}-queue": layout.socket(name)
        for name in ("slave", "file", "import", "status", "control")
    }
    return {
        "DEFAULT": queues,
        "master": {
            "dsn": postgres.dsn(DATABASE, ROLE),
            "output-path": str(layout.web_tree),
            "pypi-simple": options.pypi,
            "site-url": url,
            "build-index": f"{url}simple/",
        },
    }


def _services(layout: Layout, slaves: Sequence[Slave], listener: socket.socket) -> Iterator[Child]:
    yield Child("master", _command(layout, "master"), reports_ready=True)
    yield Child(
        "web",
        partial(_serve_web, layout.web_tree, listener),
        reports_ready=True,
    )
    for slave in slaves:
        yield Child(
            f"slave {slave.label}",
            _command(
                layout,
                "slave",
                *("--label", slave.label),
                *("--python", str(slave.interpreter.python)),
                *("--dir", str(layout.slave(slave.label))),
            ),
            reports_ready=True,
        )


def _command(layout: Layout, name: str, *words: str) -> Command:
    """One of the piw- commands, as an operator would run it."""
    module = f"import sys; from piwheels.cli.{name} import main; sys.exit(main())"
    return Command(
        [sys.executable, "-c", module, "-c", str(layout.configuration), *words],
        log=layout.logs / f"{name}.log",
    )


def _serve_web(tree: Path, listener: socket.socket, heart: Heart) -> None:
    web.serve(tree, listener, heart.ready)


def _console(
    options: argparse.Namespace,
    layout: Layout,
    slaves: int,
    requests: Sequence[tuple[str, Add]],
    screen: Screen,
) -> Child:
    files = f"{layout.web_tree}/" if options.exit else _url(options)
    farm = Farm(layout.socket("status"), layout.socket("import"), files, slaves)

    def show(_: Heart) -> None:
        sys.exit(Console(farm, requests, screen).run(leave_at_rest=options.exit))

    return Child("console", show, restart=Restart.NEVER)


def _url(options: argparse.Namespace) -> str:
    return f"http://{HOST}:{options.port}/"


def _introduce(screen: Screen, options: argparse.Namespace, layout: Layout) -> None:
    """Say what a newcomer needs next."""
    screen.print(f"[bold]The farm is up:[/] {_url(options)}", soft_wrap=True)
    if not options.exit:
        _tell_lines(screen, f"{_url(options)}simple/")
        add = Path(sys.argv[0]).with_name("piw-add")
        screen.print(f"  more  {add} -c {layout.configuration} NAME", soft_wrap=True)
        screen.print("  end   Ctrl+C", soft_wrap=True)


def _part(screen: Screen, options: argparse.Namespace, layout: Layout) -> None:
    """Say where the wheels are, now that nobody serves them."""
    screen.print(f"The wheels stay in {layout.web_tree}:", soft_wrap=True)
    _tell_lines(screen, f"{(layout.web_tree / 'simple').as_uri()}/")


def _tell_lines(screen: Screen, index: str) -> None:
    """The lines to paste."""
    screen.print(f"  pip   pip install --extra-index-url {index} NAME", soft_wrap=True)
    screen.print(
        f"  uv    uv pip install --index {index} --index-strategy unsafe-best-match NAME",
        soft_wrap=True,
    )


class _Watch:
    """What the supervisor tells, and what of it a person must know."""

    def __init__(self, screen: Screen, layout: Layout) -> None:
        self.screen = screen
        self.layout = layout
        self.is_stopping = False
        self.console_status: int | None = None

    def see(self, event: Event) -> None:
        """Show *event*, if it matters."""
        log.info("%s", event)
        match event:
            case Stopping():
                self.is_stopping = True
            case Died("console", status, _):
                self.console_status = abs(status)
            case Died(name, status, words) if not self.is_stopping:
                self.screen.print(
                    f"[yellow]{escape(name)} ended ({status}) and is started again:[/] "
                    f"{escape(words or 'it did not say why')}; see {self.layout.logs}",
                    soft_wrap=True,
                )
            case Unkillable(problem):
                self.screen.print(f"[red]{escape(problem)}[/]", soft_wrap=True)
