"""piw-add: ask the master to build a package, or never to."""

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from piwheels.cli.options import (
    FAILED,
    BadUsage,
    Parser,
    add_queue,
    add_yes,
    confirm,
    duration,
    queue_address,
    run,
)
from piwheels.model.errors import PiwheelsError, Unavailable
from piwheels.model.names import normalize
from piwheels.protocol.admin import FROM_ADMIN, FROM_TOOL, Add, Added, Failed
from piwheels.transport import Caller, Waiter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(lambda: add(_parser().parse(arguments)))


def _parser() -> Parser:
    parser = Parser("piw-add", "Ask the master to build a package, or never to.")
    parser.add_argument("package", help="a name, or a requirement such as six==1.16.0")
    parser.add_argument("version", nargs="?", help="this version instead of the newest")
    skip = parser.add_mutually_exclusive_group()
    skip.add_argument(
        "-s", "--skip", metavar="REASON", help="never build the package, or just the version"
    )
    skip.add_argument("--unskip", action="store_true", help="build it again")
    parser.add_argument("-d", "--description", metavar="TEXT", help="what it is, in one line")
    parser.add_argument(
        "-a", "--alias", metavar="NAME", action="append", help="another name that leads to it"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, only")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument(
        "--wait", metavar="DURATION", type=duration, default=60.0, help="for the answer (60s)"
    )
    add_yes(parser)
    add_queue(parser, "import", "where the master listens to this command")
    return parser


def add(options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status."""
    request = read_request(options)
    if request.skip and not request.is_dry_run:
        what = f"{request.package} {request.specifier}".strip()
        if not confirm(f"Never build {what} again?", options.yes):
            return FAILED
    answer = ask(queue_address(options, "import"), request, options.wait)
    if options.json:
        print(json.dumps(asdict(answer)))
    if isinstance(answer, Failed):
        raise PiwheelsError(": ".join(filter(None, (answer.reason, answer.hint))))
    for warning in answer.warnings:
        print(f"note: {warning}", file=sys.stderr)
    if not options.json:
        print(in_words(request, answer))
    return 0


def read_request(options: argparse.Namespace) -> Add:
    """What to ask the master. Raise BadUsage, BadName."""
    package, specifier = read_requirement(options.package, options.version)
    return Add(
        package,
        specifier,
        skip="" if options.unskip else _reason(options.skip),
        description=" ".join((options.description or "").split()),
        aliases=tuple(options.alias or ()),
        is_dry_run=options.dry_run,
    )


def read_requirement(text: str, version: str | None = None) -> tuple[str, str]:
    """Part six==1.16.0, or six and 1.16.0, into a normalized name and a specifier.

    Raise BadUsage, BadName.
    """
    if re.fullmatch(r"[^\s<>=!~;\[(@]+", text):
        return normalize(text), _specifier(version) if version else ""
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise BadUsage(f"{text!r} is not a requirement: write it as six==1.16.0") from error
    if requirement.url or requirement.extras or requirement.marker:
        raise BadUsage(f"only a name and versions can be added: say {requirement.name}")
    if version:
        raise BadUsage(f"{text} names a version, and {version} is one too: give one of them")
    return normalize(requirement.name), str(requirement.specifier)


def _specifier(version: str) -> str:
    """A bare version is meant exactly."""
    specifier = version if version[0] in "<>=!~" else f"=={version}"
    try:
        return str(SpecifierSet(specifier))
    except InvalidSpecifier as error:
        raise BadUsage(f"{version!r} is not a version: write it as 1.16.0") from error


def _reason(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise BadUsage("--skip needs a reason that people will understand: give one")
    return text and " ".join(text.split())


def ask(address: str, request: Add, seconds: float) -> Added | Failed:
    """The master's answer. Raise Unavailable if there is none within *seconds*."""
    path = address.removeprefix("ipc://")
    if path != address and not Path(path).is_socket():
        raise Unavailable(f"nobody listens on {address}: is piw-master running on this host?")
    with Caller(address) as caller:
        caller.ask(FROM_TOOL.encode(request))
        waiter, deadline = Waiter(caller), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            waiter.wait(left)
            if (frame := caller.answer()) is not None:
                answer: Added | Failed = FROM_ADMIN.decode(frame)
                return answer
    raise Unavailable(
        f"no answer on {address} within {seconds:g} s: is piw-master running, and is its "
        "--import-queue the same?"
    )


def in_words(request: Add, answer: Added) -> str:
    """What was done, or would be."""
    what = f"{answer.package} {answer.version}".strip()
    would = "would" if request.is_dry_run else "will"
    if not answer.is_news:
        return f"{what}: nothing to change"
    if request.skip:
        return f"{what} {would} not be built: {request.skip}"
    return f"{what} {would} be built"
