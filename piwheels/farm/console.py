"""The farm's console: asks for what was named, shows how it goes, says how it went.

Runs in a process of its own beside the services and talks with them as any tool does.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console as Screen
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from piwheels.farm.progress import Picture, Progress, in_words
from piwheels.model.builds import Outcome
from piwheels.model.errors import BadMessage
from piwheels.protocol.admin import (
    FROM_ADMIN,
    FROM_TOOL,
    Add,
    Added,
    Failed,
    Look,
    Standings,
    TargetStanding,
)
from piwheels.protocol.status import FROM_STATUS, Ended
from piwheels.transport import Caller, Subscriber, Waiter

REDRAW = 0.25  # seconds
PATIENCE = 120.0  # seconds for the answer to one request: PyPI may be slow
SLAVES_PATIENCE = 60.0  # seconds for the slaves to show up
GOOD_STATES = frozenset({"done"})
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass(frozen=True, slots=True)
class Farm:
    """Where the farm's services are. slaves: how many there will be.

    files: what a public path is put behind for people: the web server's address, or the
    folder of the web tree with a slash at its end.
    """

    status_address: str
    import_address: str
    files: str
    slaves: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A requirement that the master did not take."""

    requirement: str
    reason: str
    hint: str


@dataclass
class Console:
    """One run of the console. accepted: package and version of what the master took."""

    farm: Farm
    requests: Sequence[tuple[str, Add]]
    screen: Screen
    progress: Progress = field(default_factory=Progress)
    accepted: list[tuple[str, str]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def run(self, leave_at_rest: bool) -> int:
        """Show the farm until it is at rest, or for ever; return the exit status."""
        asking = threading.Thread(target=self._ask_for_all, daemon=True)
        with Subscriber(self.farm.status_address) as status, self._live() as live:
            waiter = Waiter(status)
            self._watch(status, waiter, live, until=self._slaves_are_there)
            asking.start()
            self._watch(status, waiter, live, until=lambda: not asking.is_alive())
            self._watch(status, waiter, live, until=self._has_fresh_news())
            if leave_at_rest:
                self._watch(status, waiter, live, until=self.progress.is_at_rest)
            else:
                self._watch(status, waiter, live, until=lambda: False)
        return self._sum_up()

    def _watch(
        self, status: Subscriber, waiter: Waiter, live: Live, until: Callable[[], bool]
    ) -> None:
        while not until():
            waiter.wait(REDRAW)
            self._take_in(status)
            if self.screen.is_terminal:
                live.update(self._draw(self.progress.picture()), refresh=True)

    def _take_in(self, status: Subscriber) -> None:
        frame = status.hear()
        if frame is None:
            return
        try:
            for build in self.progress.see(FROM_STATUS.decode(frame)):
                self._tell(build)
        except BadMessage as error:
            self.screen.print(f"status: {error}")

    def _slaves_are_there(self) -> bool:
        enough = self.progress.picture().slaves >= self.farm.slaves
        return enough or time.monotonic() > self.started + SLAVES_PATIENCE

    def _has_fresh_news(self) -> Callable[[], bool]:
        """What was just asked for is in the second snapshot from now, if not in the first."""
        wanted = self.progress.snapshots + 2
        return lambda: self.progress.snapshots >= wanted

    # Asking

    def _ask_for_all(self) -> None:
        for requirement, request in self.requests:
            match self._ask(request):
                case Added(package, version, is_news, warnings):
                    self.accepted.append((package, version))
                    self.screen.print(
                        f"[cyan]+[/] {escape(package)} {escape(version)}"
                        + ("" if is_news else " [dim](known already)[/]")
                    )
                    for warning in warnings:
                        self.screen.print(f"  [yellow]note:[/] {escape(warning)}")
                case Failed(reason, hint):
                    self._refuse(Refused(requirement, reason, hint))
                case _:
                    self._refuse(Refused(requirement, "the master does not answer", ""))

    def _refuse(self, refused: Refused) -> None:
        self.refused.append(refused)
        self.screen.print(f"[red]✗[/] {escape(refused.requirement)}: {escape(refused.reason)}")
        if refused.hint:
            self.screen.print(f"  [green]→[/] {escape(refused.hint)}")

    def _ask(self, request: object) -> object | None:
        """The admin service's answer, or None."""
        with Caller(self.farm.import_address) as caller:
            caller.ask(FROM_TOOL.encode(request))
            if Waiter(caller).wait(PATIENCE) and (frame := caller.answer()):
                answer: object = FROM_ADMIN.decode(frame)
                return answer
        return None

    # Showing

    def _live(self) -> Live:
        return Live(console=self.screen, auto_refresh=False, transient=True)

    def _draw(self, now: Picture) -> Table:
        table = Table.grid(padding=(0, 1))
        turn = SPINNER[int(time.monotonic() / REDRAW) % len(SPINNER)]
        for build, duration in now.running[:20]:
            table.add_row(
                Text(turn, style="cyan"),
                Text(f"{build.package} {build.version}", style="bold"),
                Text(build.target, style="dim"),
                Text(f"{build.phase}, {in_words(duration)}"),
            )
        parts = [
            f"{now.queued} queued",
            f"{len(now.running)} building",
            f"{now.built} built",
            f"{now.failed} failed",
        ]
        parts += [f"{now.later} to retry later"] if now.later else []
        parts += [f"{now.slaves} of {self.farm.slaves} slaves ready"]
        grid = Table.grid()
        grid.add_row(table)
        grid.add_row(Text(" · ".join(parts), style="dim"))
        return grid

    def _tell(self, build: Ended) -> None:
        took = in_words(build.seconds)
        what = f"[bold]{escape(build.package)} {escape(build.version)}[/]"
        where = f"[dim]{escape(build.target)}[/]"
        if build.outcome == Outcome.SUCCESS:
            files = ", ".join(map(escape, build.files))
            self.screen.print(f"[green]✓[/] {what} {where} in {took}: {files}", soft_wrap=True)
            return
        self.screen.print(
            f"[red]✗[/] {what} {where} after {took}: {escape(build.cause)}", soft_wrap=True
        )
        if build.fix:
            self.screen.print(f"  [green]→[/] {escape(build.fix)}", soft_wrap=True)
        if build.log:
            self.screen.print(f"  log: {self.farm.files}{build.log}", soft_wrap=True)

    # Summing up

    def _sum_up(self) -> int:
        """Say how each requirement stands now; return the exit status."""
        bad = len(self.refused)
        for package, version in self.accepted:
            answer = self._ask(Look(package, version))
            standings = answer.standings if isinstance(answer, Standings) else ()
            bad += not any(each.state in GOOD_STATES for each in standings)
            self._tell_standing(package, version, standings)
        for refused in self.refused:
            self.screen.print(f"[red]✗[/] {escape(refused.requirement)}: {escape(refused.reason)}")
        total = len(self.requests)
        if total:
            self.screen.print(f"{total - bad} of {total} have a wheel.")
        return 1 if bad or any(b.outcome != Outcome.SUCCESS for b in self.progress.ended) else 0

    def _tell_standing(
        self, package: str, version: str, standings: Sequence[TargetStanding]
    ) -> None:
        name = f"[bold]{escape(package)} {escape(version)}[/]"
        for each in standings:
            mark = "[green]✓[/]" if each.state in GOOD_STATES else "[red]✗[/]"
            what = each.filename or each.cause or each.state
            state = "" if each.filename else f"{each.state}: "
            self.screen.print(
                f"{mark} {name} [dim]{escape(each.target)}[/] {escape(state + what)}",
                soft_wrap=True,
            )
        if not standings:
            self.screen.print(f"[red]✗[/] {name} no target can build it")
