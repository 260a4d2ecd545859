"""From piw-add to pip-installable, beside bare pip wheel; and the farm's memory at rest.

Each round releases a package that nobody knows, asks a real farm for it and follows it to
the farm's simple index; then pip wheel and uv build make a wheel of the same sdist with the
same interpreter. All take build tools from one index on this machine, so that no network is
measured. One round of each package goes first, unmeasured: all have their caches warm then.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scripts.benchmarks import fresh, memory, rivals
from scripts.benchmarks.measured_farm import TREES, MeasuredFarm, measured_farm
from scripts.benchmarks.result import BenchmarkFailed, Result, Spread, Table
from tests.pypi_server import SmallPyPI, small_pypi

NAME = "line"

PACKAGES = ("tiny-pure", "tiny-extension")
BUILD_TOOLS = ("setuptools",)
RIVALS = {"pip wheel": rivals.pip_wheel, "uv build": rivals.uv_build}
AIM = 256 * 1024**2  # bytes of all master processes together
PATIENCE = 120.0  # seconds
GLANCE = 0.002  # seconds between two looks for a page; its time is the file's own

PHASES = ("fetching", "preparing", "building", "inspecting")
MILESTONES = {
    "answered": "piw-add has its answer and has ended",
    "leased": "a slave was given the build",
    "built": "the slave has the wheel and its log",
    "committed": "wheel and log lie in the web tree, on record",
    "installable": "the simple page names the wheel",
    "downloaded": "a pip started then has the wheel",
}


@dataclass(frozen=True, slots=True)
class Round:
    """One package's way. milestones: seconds since piw-add was started; phases: of the build.

    alone: seconds that each rival took for the same sdist.
    """

    package: str
    milestones: Mapping[str, float]
    phases: Mapping[str, float]
    alone: Mapping[str, float]
    sandbox: str

    @property
    def ratios(self) -> dict[str, float]:
        """How many times as long as each rival it took until the wheel could be installed."""
        return {name: self.milestones["installable"] / took for name, took in self.alone.items()}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--rounds", type=_count, default=3, metavar="N", help="measured ones (3)")
    parser.add_argument(
        "--package",
        action="append",
        choices=PACKAGES,
        metavar="NAME",
        help=f"of tests/packages, repeatable ({', '.join(PACKAGES)})",
    )


def run(options: argparse.Namespace) -> Result:
    """Measure. Raise BenchmarkFailed."""
    with _bench() as bench:
        bench.farm.wait_for_rest()
        at_start = bench.memory()
        packages = options.package or PACKAGES
        for package in packages:
            bench.measure(package, "warm")
        rounds = [
            bench.measure(package, str(number))
            for number in range(options.rounds)
            for package in packages
        ]
        bench.farm.wait_for_rest()
        return _result(rounds, at_start, bench.memory(), bench.farm.postgres_version())


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("at least one round is needed")
    return count


# Measuring


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes (PSS) of each process; services: those of the master."""

    services: Mapping[str, int]
    others: Mapping[str, int]

    @property
    def master(self) -> int:
        """Of all master processes together."""
        return sum(self.services.values())


@dataclass(frozen=True, slots=True)
class _Bench:
    """A farm, the index it builds from, and room for what pip makes."""

    farm: MeasuredFarm
    pypi: SmallPyPI
    scratch: Path
    variables: Mapping[str, str]

    def memory(self) -> Memory:
        return Memory(
            memory.by_name(self.farm.services()),
            memory.by_name(self.farm.programs(), with_children=TREES),
        )

    def measure(self, package: str, label: str) -> Round:
        """Send a fresh copy of *package* down the line; then let pip build it."""
        name = f"{package}-{label}"
        sdist = fresh.release(package, name, self.pypi.folder)
        began = time.time()  # what PostgreSQL and the file system go by, on the same machine
        answer = self.farm.running.add(name)
        answered = time.time()
        if answer.returncode:
            raise BenchmarkFailed(f"piw-add {name}: {answer.stderr.strip()}")
        installable = self._wait_for_page(name)
        downloaded = installable + self._download(name)
        build = self.farm.build(name)
        built = build.started + build.seconds
        moments = (answered, build.started, built, build.ended, installable, downloaded)
        return Round(
            package,
            {name: at - began for name, at in zip(MILESTONES, moments, strict=True)},
            {phase: build.phases.get(phase, 0.0) for phase in PHASES},
            {name: self._let_build(name, sdist) for name in RIVALS},
            build.sandbox,
        )

    def _download(self, package: str) -> float:
        """Seconds that pip takes to get it from the farm."""
        began = time.perf_counter()
        index, destination = self.farm.running.index_url, self.scratch / "downloads"
        rivals.download(package, index, destination, self.variables)
        return time.perf_counter() - began

    def _let_build(self, rival: str, sdist: Path) -> float:
        """Seconds that *rival* takes."""
        began = time.perf_counter()
        RIVALS[rival](sdist, self.scratch / "wheels", self.variables)
        return time.perf_counter() - began

    def _wait_for_page(self, package: str) -> float:
        """When the page was put into the tree. A package without a file has none."""
        page, deadline = self.farm.page(package), time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                # Renaming sets it on the file systems of Linux: the moment it could be seen.
                return page.stat().st_ctime
            except FileNotFoundError:
                time.sleep(GLANCE)
        raise BenchmarkFailed(f"{package} was never published:\n{self.farm.running.logs()}")


@contextmanager
def _bench() -> Iterator[_Bench]:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        scratch.chmod(0o711)  # builds run as other users, below it
        sources = scratch / "pypi"
        sources.mkdir()
        pypi = stack.enter_context(small_pypi(sources))
        rivals.fetch(BUILD_TOOLS, sources)
        variables = rivals.environment(pypi.simple_url, scratch / "caches")
        farm = stack.enter_context(measured_farm(scratch / "farm", pypi.simple_url, variables))
        yield _Bench(farm, pypi, scratch, variables)


# Reporting


def _result(rounds: Sequence[Round], at_start: Memory, at_rest: Memory, postgres: str) -> Result:
    by_package = {
        package: [round_ for round_ in rounds if round_.package == package]
        for package in dict.fromkeys(round_.package for round_ in rounds)
    }
    return Result(
        samples=[{"kind": "round", **asdict(round_), "ratios": round_.ratios} for round_ in rounds]
        + [
            {"kind": "memory", "when": when, **asdict(taken)}
            for when, taken in (("at start", at_start), ("after the rounds", at_rest))
        ],
        figures={
            "packages": {package: _figures(own) for package, own in by_package.items()},
            "memory": {"master": at_rest.master, "aim": AIM},
        },
        tables=[
            *(_line_table(package, own) for package, own in by_package.items()),
            *(_phase_table(package, own) for package, own in by_package.items()),
            _memory_table(at_start, at_rest),
        ],
        facts={
            "postgresql": postgres,
            "pip": version("pip"),
            "uv": version("uv"),
        },
    )


def _spreads(rounds: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """The spread of each key over *rounds*, all of which have the same ones."""
    return {key: Spread.of([round_[key] for round_ in rounds]) for key in rounds[0]}


def _figures(rounds: Sequence[Round]) -> dict[str, Any]:
    spreads = {
        "milestones": _spreads([round_.milestones for round_ in rounds]),
        "phases": _spreads([round_.phases for round_ in rounds]),
        "alone": _spreads([round_.alone for round_ in rounds]),
        "ratios": _spreads([round_.ratios for round_ in rounds]),
    }
    return {
        what: {name: asdict(spread) for name, spread in own.items()}
        for what, own in spreads.items()
    }


def _line_table(package: str, rounds: Sequence[Round]) -> Table:
    way = _spreads([round_.milestones for round_ in rounds])
    alone = _spreads([round_.alone for round_ in rounds])
    rows = [(MILESTONES[name], *_cells(spread)) for name, spread in way.items()]
    rows += [(f"{rival} alone", *_cells(spread)) for rival, spread in alone.items()]
    return Table(
        f"{package}: seconds since piw-add was started",
        ("until", "median", "lowest", "highest"),
        tuple(rows),
        tuple(_ratio_note(rival, [round_.ratios[rival] for round_ in rounds]) for rival in alone),
    )


def _ratio_note(rival: str, ratios: Sequence[float]) -> str:
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"installable / {rival}: median {Spread.of(ratios).median:.2f} of {each}"


def _phase_table(package: str, rounds: Sequence[Round]) -> Table:
    spreads = _spreads([round_.phases for round_ in rounds])
    return Table(
        f"{package}: seconds of each phase of the build (sandbox {rounds[-1].sandbox})",
        ("phase", "median", "lowest", "highest"),
        tuple((name, *_cells(spread)) for name, spread in spreads.items()),
    )


def _cells(spread: Spread) -> tuple[str, ...]:
    return tuple(f"{value:.3f}" for value in (spread.median, spread.lowest, spread.highest))


def _memory_table(at_start: Memory, at_rest: Memory) -> Table:
    rows = [
        *((name, at_start.services.get(name, 0), size) for name, size in at_rest.services.items()),
        ("all of the master", at_start.master, at_rest.master),
        *((name, at_start.others.get(name, 0), size) for name, size in at_rest.others.items()),
    ]
    return Table(
        "Memory at rest: MiB (PSS)",
        ("process", "at start", "after the rounds"),
        tuple((name, *(f"{size / 2**20:.1f}" for size in sizes)) for name, *sizes in rows),
        (f"the aim for all of the master is {AIM / 2**20:.0f} MiB",),
    )
