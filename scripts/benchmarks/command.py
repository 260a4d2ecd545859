"""The command line: finds the benchmarks, runs one, shows and keeps its result."""

import argparse
import importlib
import json
import pkgutil
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

from rich.console import Console
from rich.table import Table as Grid

from scripts.benchmarks import machine, suite
from scripts.benchmarks.result import BenchmarkFailed, Result, Table

COMMAND = "scripts/bench"


class Benchmark(Protocol):
    """A module of the suite. The first line of its docstring is shown in the list."""

    NAME: str
    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add its own options."""

    def run(self, options: argparse.Namespace) -> Result:
        """Measure. Raise BenchmarkFailed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run scripts/bench; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    benchmarks = found()
    options = _parser(benchmarks).parse_args(words)
    screen = Console(highlight=False)
    if options.name is None:
        for benchmark in benchmarks.values():
            screen.print(f"{benchmark.NAME:<12}{summary(benchmark)}", soft_wrap=True)
        return 0
    started = datetime.now(UTC)
    facts = machine.facts()  # before the benchmark itself loads the machine
    try:
        result = benchmarks[options.name].run(options)
    except BenchmarkFailed as error:
        print(f"{COMMAND} {options.name}: {error}", file=sys.stderr)
        return 1
    report = {
        "benchmark": options.name,
        "command": shlex.join([COMMAND, *words]),
        "started": started.isoformat(timespec="seconds"),
        "machine": {**facts, **result.facts},
        "figures": result.figures,
        "samples": result.samples,
    }
    show(report, result.tables, screen)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def found() -> Mapping[str, Benchmark]:
    """Every benchmark of the suite by its name."""
    modules = (
        cast(Benchmark, importlib.import_module(f"{suite.__name__}.{module.name}"))
        for module in pkgutil.iter_modules(suite.__path__)
    )
    return {module.NAME: module for module in modules}


def summary(benchmark: Benchmark) -> str:
    """What it measures, in one line."""
    return (benchmark.__doc__ or "").strip().partition("\n")[0]


def _parser(benchmarks: Mapping[str, Benchmark]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(COMMAND, description="Measure one thing, or list them all.")
    names = parser.add_subparsers(dest="name", metavar="NAME")
    for benchmark in benchmarks.values():
        own = names.add_parser(
            benchmark.NAME, help=summary(benchmark), description=benchmark.__doc__
        )
        own.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
        benchmark.add_options(own)
    return parser


def show(report: Mapping[str, Any], tables: Sequence[Table], screen: Console) -> None:
    """Print what was measured, and on what."""
    screen.print(f"$ {report['command']}", soft_wrap=True, markup=False)
    facts = (f"{name} {value}" for name, value in _readable(report["machine"]).items())
    screen.print(", ".join(facts), soft_wrap=True, markup=False)
    for table in tables:
        screen.print(f"\n{table.title}", soft_wrap=True, markup=False)
        screen.print(_grid(table))
        for note in table.notes:
            screen.print(note, soft_wrap=True, markup=False)


def _readable(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, "memory": f"{facts['memory'] / 2**30:.1f} GiB", "load": f"{facts['load']:.2f}"}


def _grid(table: Table) -> Grid:
    grid = Grid()
    for number, column in enumerate(table.columns):
        grid.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        grid.add_row(*row)
    return grid
