"""piw-why: why a package has a wheel, has none, or waits for one."""

import argparse
import json
from collections.abc import Iterator, Sequence

from piwheels.cli.asking import add_asking, as_json, ask
from piwheels.cli.columns import WIDTH, in_columns, paragraph
from piwheels.cli.options import Parser, run
from piwheels.protocol.admin import OtherVersion, Reasons, TargetStanding, Why

USUAL_OTHERS = 20
ALL_OTHERS = 100_000
INDENT = " " * 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(lambda: why(parser().parse(arguments)))


def parser() -> Parser:
    """The options of piw-why."""
    options = Parser("piw-why", "Say why a package has a wheel, has none, or waits for one.")
    options.add_argument("package", help="any spelling of it")
    options.add_argument(
        "version", nargs="?", default="", help="this version instead of the newest, and only it"
    )
    options.add_argument("--target", metavar="NAME", default="", help="only on this target")
    options.add_argument(
        "--all",
        action="store_true",
        help=f"a line for every other version, not only for {USUAL_OTHERS}",
    )
    add_asking(options, "import")
    return options


def why(options: argparse.Namespace) -> int:
    """Ask and print; return the exit status."""
    most = ALL_OTHERS if options.all else USUAL_OTHERS
    request = Why(options.package, options.version, options.target, most)
    answer: Reasons = ask(options, "import", request)
    if options.json:
        print(json.dumps(as_json(answer)))
    else:
        print(*in_words(answer), sep="\n")
    return 0


def in_words(answer: Reasons) -> Iterator[str]:
    """The lines to print."""
    released = f", released {answer.released:%Y-%m-%d}" if answer.released else ""
    yield f"{answer.package} {answer.version}{released}"
    if not answer.standings:
        yield "  no target is active: activate one with piw-target, or start a slave"
    width = max((len(standing.target) for standing in answer.standings), default=0)
    for standing in answer.standings:
        yield from _standing(standing, width)
    if answer.others:
        yield ""
        yield "other versions"
        rows = [_other(version) for version in answer.others]
        yield from (f"  {line}" for line in in_columns(rows, broken={2}))
    if answer.unshown:
        yield f"  and {answer.unshown:,} more: piw-why {answer.package} --all"


def _standing(standing: TargetStanding, width: int) -> Iterator[str]:
    head = f"  {standing.target.ljust(width)}  {standing.state}"
    if len(f"{head}: {standing.words}") <= WIDTH:
        yield f"{head}: {standing.words}"
    else:
        yield head
        yield from paragraph(standing.words, INDENT)
    if standing.cause not in standing.words:
        yield from _named("cause", [standing.cause])
    if standing.fix not in standing.words:
        yield from _named("fix", [standing.fix])
    # What is a command stands on a line of its own, to be copied.
    yield from _named("next", standing.next_step.split("; "))
    yield from _named("log", [standing.log])


def _named(name: str, texts: Sequence[str]) -> Iterator[str]:
    """The lines of *texts*, the first behind its name; none if there is nothing to say."""
    lines = [line for text in texts for line in paragraph(text, INDENT + " " * 7)]
    for number, line in enumerate(lines):
        yield line if number else f"{INDENT}{name.ljust(5)}  {line.strip()}"


def _other(version: OtherVersion) -> tuple[str, str, str]:
    released = f"{version.released:%Y-%m-%d}" if version.released else ""
    states = ", ".join(
        f"{state} on {count}" if len(version.states) > 1 else state
        for state, count in version.states.items()
    )
    return version.version, released, states
