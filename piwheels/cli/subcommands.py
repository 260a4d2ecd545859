"""Commands that do several things: piw-target list, piw-target add, …"""

import argparse
import copy

from piwheels.cli.options import Parser


class Subcommands:
    """What a command can do. Its own options may stand before or after the name of the action."""

    def __init__(self, parser: Parser) -> None:
        """To be made once *parser* has its options."""
        self.shared = _shared(parser)
        self.actions = parser.add_subparsers(
            dest="action",
            metavar="ACTION",
            required=True,
            parser_class=argparse.ArgumentParser,
            help="what to do",
        )

    def add(self, name: str, what: str) -> argparse.ArgumentParser:
        """Add an action; return its parser, for what only it takes."""
        made: argparse.ArgumentParser = self.actions.add_parser(
            name, help=what, description=f"{what[0].upper()}{what[1:]}.", parents=[self.shared]
        )
        return made


def _shared(parser: Parser) -> argparse.ArgumentParser:
    """The options of *parser*, without their defaults: what was given before stays."""
    shared = argparse.ArgumentParser(add_help=False)
    for action in parser._actions:
        if action.option_strings and action.default is not argparse.SUPPRESS:
            again = copy.copy(action)
            again.default = argparse.SUPPRESS
            shared._add_action(again)
    return shared
