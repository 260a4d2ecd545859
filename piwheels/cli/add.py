"""piw-add: ask the master to build a package, or never to."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from piwheels.cli.asking import add_asking, as_json, ask
from piwheels.cli.options import FAILED, BadUsage, Parser, add_yes, confirm, run
from piwheels.cli.requirements_file import read_requirements
from piwheels.model.errors import PiwheelsError, Unavailable
from piwheels.model.names import normalize
from piwheels.protocol.admin import Add, Added, Rules


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(lambda: add(_parser().parse(arguments)))


def _parser() -> Parser:
    parser = Parser("piw-add", "Ask the master to build a package, or never to.")
    parser.add_argument("package", nargs="?", help="a name, or a requirement such as six==1.16.0")
    parser.add_argument("version", nargs="?", help="this version instead of the newest")
    parser.add_argument(
        "-r",
        "--requirements",
        metavar="FILE",
        type=Path,
        help="all that a file of requirements names, as pip reads it",
    )
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
    if options.requirements is None:
        if options.package is None:
            raise BadUsage("nothing to add: name a package, or a file with --requirements")
        _ask(options, _request(options, *read_requirement(options.package, options.version)))
        return 0
    return _add_all(options)


def _add_all(options: argparse.Namespace) -> int:
    """One after the other; what cannot be added holds up no other."""
    _check_alone(options)
    named, notes = read_requirements(options.requirements)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    failed = 0
    for package, specifier in named:
        try:
            _ask(options, _request(options, package, specifier))
        except Unavailable:
            raise  # so would be all others
        except PiwheelsError as error:
            failed += 1
            print(f"{package}{specifier}: {error}", file=sys.stderr)
    if failed:
        print(
            f"{failed} of {len(named)} could not be added: mend these, and say it again; "
            "what was added stays",
            file=sys.stderr,
        )
    return FAILED if failed else 0


def _check_alone(options: argparse.Namespace) -> None:
    """What concerns one package cannot be meant for all of a file. Raise BadUsage."""
    if options.package is not None:
        raise BadUsage(f"{options.package} and --requirements: give one of them")
    for name in ("skip", "unskip", "description", "alias"):
        if getattr(options, name):
            raise BadUsage(f"--{name} is for one package: say it without --requirements")


def _ask(options: argparse.Namespace, request: Add) -> None:
    """Ask for it, once the operator is sure, and tell what came of it. Raise PiwheelsError."""
    if request.skip and not request.is_dry_run:
        what = f"{request.package} {request.specifier}".strip()
        if not confirm(f"Never build {what} again?", options.yes):
            raise PiwheelsError("nothing was changed")
    answer: Added = ask(options, "import", request)
    if options.json:
        print(json.dumps(as_json(answer)))
    for warning in answer.warnings:
        print(f"note: {warning}", file=sys.stderr)
    if not options.json:
        print(in_words(request, answer))


def _request(options: argparse.Namespace, package: str, specifier: str) -> Add:
    """What to ask the master. Raise BadUsage, BadName."""
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
