"""piw-initdb: create or upgrade the farm's schema, as the database's owner."""

import argparse
from collections.abc import Sequence

from piwheels.cli.options import FAILED, Parser, add_yes, confirm, run
from piwheels.database import schema


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(lambda: initialize(_parser().parse(arguments)))


def _parser() -> Parser:
    parser = Parser(
        "piw-initdb", "Create or upgrade the farm's database, all of it or nothing, as its owner."
    )
    parser.add_argument(
        "-d",
        "--dsn",
        default="postgresql:///piwheels",
        help="the database, as its owner or a superuser (default: %(default)s)",
    )
    parser.add_argument(
        "-u",
        "--user",
        metavar="NAME",
        default="piwheels",
        help="the role that piw-master works as; made if it is not there (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, only")
    add_yes(parser)
    return parser


def initialize(options: argparse.Namespace) -> int:
    """Do what *options* say; return the exit status."""
    planned = schema.plan(options.dsn, options.user)
    for step in planned.words:
        print(f"{'would' if options.dry_run else 'will'} {step}", flush=True)
    if options.dry_run:
        return 0
    if not confirm("Go on?", options.yes):
        return FAILED
    schema.initialize(options.dsn, options.user)
    print("done: the database is ready for piw-master")
    return 0
