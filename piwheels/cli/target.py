"""piw-target: the targets that the farm builds for."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from piwheels.cli.asking import add_asking, as_json, ask
from piwheels.cli.columns import in_columns
from piwheels.cli.options import FAILED, BadUsage, Parser, add_yes, confirm, run
from piwheels.cli.subcommands import Subcommands
from piwheels.model.targets import TargetOffer
from piwheels.protocol.admin import (
    AddTarget,
    Changed,
    ChangeTargets,
    ListTargets,
    SkipOnTarget,
    TargetList,
    TargetStatus,
)
from piwheels.slave import interpreter

HEAD = ("target", "label", "python", "rank", "active", "slaves", "largest", "ready", "later")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = parser().parse(arguments)
    return ACTIONS[options.action](options)


def parser() -> Parser:
    """The options of piw-target."""
    options = Parser("piw-target", "List and change the targets that the farm builds for.")
    options.add_argument("--dry-run", action="store_true", help="say what would be done, only")
    add_yes(options)
    add_asking(options, "import")
    actions = Subcommands(options)
    actions.add("list", "list the targets, and how much waits for each")
    add = actions.add("add", "add a target before any slave offers it")
    add.add_argument("name", metavar="NAME", help="as its slaves will call it: cp311-linux_armv7l")
    tags = add.add_mutually_exclusive_group(required=True)
    tags.add_argument("--tags-from", metavar="PYTHON", help="ask this interpreter for its tags")
    tags.add_argument("--tags", metavar="FILE", help="a file with its tags, one in a line")
    add.add_argument("--python", metavar="VERSION", help="its full version, with --tags: 3.11.2")
    add.add_argument("--label", metavar="TEXT", help="what people call it (default: its name)")
    add.add_argument("--rank", metavar="NUMBER", type=int, help="see rank (default: by Python)")
    add.add_argument("--inactive", action="store_true", help="build nothing for it yet")
    for name, what in (
        ("activate", "build for these targets"),
        ("deactivate", "build no more for these targets; what was published stays"),
    ):
        actions.add(name, what).add_argument("name", metavar="NAME", nargs="+", help="a target")
    rank = actions.add("rank", "let lower ranks try first what may do for all targets")
    rank.add_argument("name", metavar="NAME", help="a target")
    rank.add_argument("rank", metavar="NUMBER", type=int, help="usually by Python: 31100 for 3.11")
    label = actions.add("label", "say what people call a target")
    label.add_argument("name", metavar="NAME", help="a target")
    label.add_argument("label", metavar="TEXT", help="CPython 3.11 on Debian 12")
    for name, what in (
        ("skip", "build a package, or one version of it, no more on a target"),
        ("unskip", "build it again"),
    ):
        skip = actions.add(name, what)
        skip.add_argument("name", metavar="NAME", help="a target")
        skip.add_argument("package", metavar="PACKAGE", help="any spelling of it")
        skip.add_argument("version", metavar="VERSION", nargs="?", default="", help="only this one")
        if name == "skip":
            skip.add_argument("--reason", metavar="TEXT", required=True, help="for people")
    return options


# list


def list_targets(options: argparse.Namespace) -> int:
    """Print all targets."""
    found: TargetList = ask(options, "import", ListTargets())
    if options.json:
        print(json.dumps(as_json(found)))
    elif not found.targets:
        print("There are no targets yet: a slave that comes brings its own.")
    else:
        rows = [HEAD, *map(_row, found.targets)]
        print(*in_columns(rows, broken={1}, right={3, 5, 6, 7, 8}), sep="\n")
    return 0


def _row(target: TargetStatus) -> tuple[str, ...]:
    return (
        target.name,
        target.label,
        target.python,
        str(target.rank),
        "yes" if target.is_active else "no",
        str(target.slaves),
        _memory(target.largest) if target.slaves else "",
        f"{target.ready:,}",
        f"{target.later:,}",
    )


def _memory(size: int) -> str:
    gibibytes = size / 1024**3
    return f"{gibibytes:.1f} GiB" if gibibytes >= 1 else f"{size >> 20} MiB"


# add


def add_target(options: argparse.Namespace) -> int:
    """Add a target whose slaves are yet to come."""
    offer = _offer(options)
    request = AddTarget(
        name=options.name,
        label=options.label or offer.label,
        python=offer.python,
        tags=offer.tags,
        rank=options.rank,
        is_active=not options.inactive,
        is_dry_run=options.dry_run,
    )
    return _tell(options, ask(options, "import", request), "is a target now")


def _offer(options: argparse.Namespace) -> TargetOffer:
    """The target as its slaves will offer it. Raise BadUsage, NoInterpreter."""
    if options.tags_from:
        offer = interpreter.probe(options.tags_from).offer
        if offer.name != options.name:
            raise BadUsage(
                f"{options.tags_from} builds for {offer.name}, not for {options.name}: name that, "
                f"or run the interpreter of a machine of {options.name} and give --tags"
            )
        return offer
    if not options.python:
        raise BadUsage("with --tags, say --python VERSION: the full version, as 3.11.2")
    return TargetOffer(options.name, options.name, options.python, _tags(Path(options.tags)))


def _tags(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadUsage(f"cannot read {path}: {error}; it has one tag in a line") from error
    for tag in lines:
        if tag.count("-") != 2:
            raise BadUsage(f"{tag!r} in {path} is not a tag: write it as cp311-cp311-linux_armv7l")
    if not lines:
        raise BadUsage(f"there are no tags in {path}: write one in a line")
    return tuple(lines)


# change


def activate(options: argparse.Namespace) -> int:
    """Build for targets."""
    request = ChangeTargets(tuple(options.name), is_active=True, is_dry_run=options.dry_run)
    return _tell(options, ask(options, "import", request), "built for from now on")


def deactivate(options: argparse.Namespace) -> int:
    """Build no more for targets, if the operator is sure."""
    names = tuple(options.name)
    would = ask(options, "import", ChangeTargets(names, is_active=False, is_dry_run=True))
    if not options.dry_run and would.names:
        question = (
            f"Build no more for {', '.join(would.names)}, and drop {_builds(would.waiting)} "
            "that wait?"
        )
        if not confirm(question, options.yes):
            return FAILED
    answer = would
    if not options.dry_run:
        answer = ask(options, "import", ChangeTargets(names, is_active=False))
    return _tell(options, answer, f"built for no more, {_builds(would.waiting)} dropped")


def _builds(number: int) -> str:
    return f"{number:,} build{'' if number == 1 else 's'}"


def rank(options: argparse.Namespace) -> int:
    """Let a target try earlier or later."""
    request = ChangeTargets((options.name,), rank=options.rank, is_dry_run=options.dry_run)
    return _tell(options, ask(options, "import", request), f"has rank {options.rank}")


def label(options: argparse.Namespace) -> int:
    """Say what people call a target."""
    text = " ".join(options.label.split())
    if not text:
        raise BadUsage("a label needs a word: piw-target label NAME TEXT")
    request = ChangeTargets((options.name,), label=text, is_dry_run=options.dry_run)
    return _tell(options, ask(options, "import", request), f"is called {text}")


def skip(options: argparse.Namespace) -> int:
    """Build something no more on a target, or build it again."""
    reason = ""
    if options.action == "skip":
        reason = " ".join(options.reason.split())
        if not reason:
            raise BadUsage("--reason needs one that people will understand: give one")
    request = SkipOnTarget(
        options.name, options.package, options.version, reason, is_dry_run=options.dry_run
    )
    what = f"not built on {options.name}: {reason}" if reason else f"built on {options.name} again"
    return _tell(options, ask(options, "import", request), what)


def _tell(options: argparse.Namespace, answer: Changed, what: str) -> int:
    """Say what is different now, or would be."""
    if options.json:
        print(json.dumps(as_json(answer)))
        return 0
    for warning in answer.warnings:
        print(f"note: {warning}", file=sys.stderr)
    would = "dry run, nothing is changed: " if options.dry_run else ""
    if answer.names:
        print(f"{would}{', '.join(answer.names)}: {what}")
    else:
        print("nothing to change")
    return 0


ACTIONS: dict[str, Callable[[Any], int]] = {
    "list": list_targets,
    "add": add_target,
    "activate": activate,
    "deactivate": deactivate,
    "rank": rank,
    "label": label,
    "skip": skip,
    "unskip": skip,
}
