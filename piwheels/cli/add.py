"""piw-add: ask the master to build a package, or never to."""

import argparse
import json
import re
import sys
from collections.abc import Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from piwheels.cli.asking import add_asking, as_json, ask
from piwheels.cli.options import FAILED, BadUsage, Parser, add_yes, confirm, run
from piwheels.model.names import normalize
from piwheels.protocol.admin import Add, Added, Rules


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
    parser.add_argument(
        "--once", action="store_true", help="build one version, and do not follow new ones"
    )
    _add_rules(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, only")
    add_yes(parser)
    add_asking(parser, "import")
    return parser


def _add_rules(parser: Parser) -> None:
    """What holds for all versions of the package, also for those to come."""
    parser.add_argument(
        "--prereleases", choices=("build", "last", "never"), help="whether to build pre-releases"
    )
    parser.add_argument(
        "--keep", metavar="NUMBER", type=_kept, help="build only so many newest versions, or all"
    )
    parser.add_argument(
        "--policy",
        choices=("all", "missing"),
        help="build all, or only what PyPI has no wheel for",
    )
    parser.add_argument(
        "--network",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether its builds may reach the network",
    )


def add(options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status."""
    request = read_request(options)
    if request.skip and not request.is_dry_run:
        what = f"{request.package} {request.specifier}".strip()
        if not confirm(f"Never build {what} again?", options.yes):
            return FAILED
    answer: Added = ask(options, "import", request)
    if options.json:
        print(json.dumps(as_json(answer)))
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
        rules=Rules(options.prereleases or "", options.keep, options.policy or "", options.network),
        is_dry_run=options.dry_run,
        is_once=options.once,
    )


def _kept(text: str) -> int:
    """All versions are kept as 0."""
    if text == "all":
        return 0
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of versions: write 3, or all")
    return int(text)


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


def in_words(request: Add, answer: Added) -> str:
    """What was done, or would be."""
    what = f"{answer.package} {answer.version}".strip()
    would = "would" if request.is_dry_run else "will"
    if not answer.is_news:
        return f"{what}: nothing to change"
    if request.skip:
        return f"{what} {would} not be built: {request.skip}"
    return f"{what} {would} be built"
