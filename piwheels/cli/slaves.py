"""piw-slaves: the slaves of the farm, and what they are to do."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from piwheels.cli.asking import add_asking, as_json, ask
from piwheels.cli.columns import in_columns
from piwheels.cli.options import FAILED, BadUsage, Parser, add_yes, confirm, run
from piwheels.cli.subcommands import Subcommands
from piwheels.protocol.control import (
    Concerned,
    Done,
    Drain,
    Forgive,
    Kill,
    ListSlaves,
    Pause,
    Resume,
    Skip,
    SlaveList,
)
from piwheels.protocol.status import SlaveStatus
from piwheels.rules.slave_state import moment

HEAD = ("slave", "target", "state", "task", "last seen")
REQUESTS = {
    "pause": Pause,
    "resume": Resume,
    "drain": Drain,
    "kill": Kill,
    "skip": Skip,
    "forgive": Forgive,
}
QUESTIONS = {
    "kill": "End {whom}, and what they build?",
    "skip": "Skip what {whom} build?",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    options = parser().parse(arguments)
    return list_slaves(options) if options.action == "list" else steer(options)


def parser() -> Parser:
    """The options of piw-slaves."""
    options = Parser("piw-slaves", "List the slaves, and say what they are to do.")
    add_yes(options)
    add_asking(options, "control")
    actions = Subcommands(options)
    listing = actions.add("list", "list the slaves: what each builds, or why it gets no work")
    listing.add_argument("label", metavar="LABEL", nargs="*", help="a slave (default: all)")
    for name, what in (
        ("pause", "give slaves no more work"),
        ("resume", "give slaves work again"),
        ("drain", "let slaves leave after the builds they are at"),
        ("kill", "let slaves leave now; what they build is built by others"),
        ("skip", "end what slaves build, and build it no more on their targets"),
        ("forgive", "end the quarantine of slaves, and forget what led to it"),
    ):
        action = actions.add(name, what)
        action.add_argument("label", metavar="LABEL", nargs="*", help="a slave")
        action.add_argument("--all", action="store_true", help="all slaves that are present")
        if name in ("pause", "drain"):
            action.add_argument("--now", action="store_true", help="end also what they build")
        if name == "skip":
            action.add_argument("--reason", metavar="TEXT", required=True, help="for people")
    return options


def list_slaves(options: argparse.Namespace) -> int:
    """Print the slaves."""
    found: SlaveList = ask(options, "control", ListSlaves(tuple(options.label)))
    if options.json:
        print(json.dumps(as_json(found)))
    elif not found.slaves:
        print("There are no slaves yet: start one with piw-slave.")
    else:
        rows = [HEAD, *map(_row, found.slaves)]
        print(*in_columns(rows, broken={3}), sep="\n")
    return 0


def _row(slave: SlaveStatus) -> tuple[str, ...]:
    return slave.label, slave.target, slave.state, slave.task, moment(slave.last_seen)


def steer(options: argparse.Namespace) -> int:
    """Ask for what *options* say; return the exit status."""
    request = read_request(options)
    if question := QUESTIONS.get(_effect(options)):
        whom = "all slaves" if options.all else ", ".join(options.label)
        if not confirm(question.format(whom=whom), options.yes):
            return FAILED
    done: Done = ask(options, "control", request)
    if options.json:
        print(json.dumps(as_json(done)))
    elif not done.slaves:
        print("no slave is present")
    else:
        for each in done.slaves:
            print(f"{each.label}: {in_words(_effect(options), each, _is_now(options))}")
    return 0


def read_request(options: argparse.Namespace) -> Any:
    """What to ask. Raise BadUsage."""
    if bool(options.label) == options.all:
        raise BadUsage(f"name slaves or say --all: piw-slaves {options.action} LABEL…")
    request = REQUESTS[_effect(options)]
    details = {"slaves": tuple(options.label), "everyone": options.all}
    if request is Skip:
        details["reason"] = " ".join(options.reason.split())
        if not details["reason"]:
            raise BadUsage("--reason needs one that people will understand: give one")
    made = request(**details)
    return replace(made, now=True) if request is Pause and options.now else made


def _effect(options: argparse.Namespace) -> str:
    """The action; to drain now is to kill."""
    return "kill" if options.action == "drain" and options.now else str(options.action)


def _is_now(options: argparse.Namespace) -> bool:
    return bool(getattr(options, "now", False))


def in_words(action: str, slave: Concerned, is_now: bool) -> str:
    """What comes of it for one slave."""
    if not slave.is_news:
        return "it builds nothing" if action == "skip" else "nothing to change"
    after = f" after {slave.build}" if slave.build else ""
    without = f"; {slave.build} is built by another" if slave.build else ""
    match action:
        case "pause":
            return f"gets no more work{without if is_now else after}"
        case "resume":
            return "gets work again"
        case "drain":
            return f"leaves{after}"
        case "kill":
            return f"leaves now{without}"
        case "skip":
            return f"{slave.build} is skipped"
    return "is trusted again"
