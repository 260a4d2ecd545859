"""The options of a command, from its parser."""

import argparse
import ast
import re
import socket
import sys
from importlib import import_module
from pathlib import Path

import platformdirs
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from piwheels.cli import options as cli
from tests.docs.generator.blocks import table

SETUP = Path(__file__).parents[3] / "setup.py"

# Defaults that are another on another machine, and the name of PyPI's index.
LIVE = {
    ("data", str(platformdirs.user_data_path("piwheels"))): "`~/.local/share/piwheels`",
    ("label", socket.gethostname()): "the host's name",
    ("python", sys.executable): "the interpreter that runs the command",
    ("pypi", PYPI_SIMPLE_ENDPOINT): "PyPI's",
    ("pypi_simple", PYPI_SIMPLE_ENDPOINT): "PyPI's",
}
BINARY_UNITS = ((1024**3, "G"), (1024**2, "M"), (1024, "K"))
UNITS_OF_TIME = ((3_600, "h"), (60, "m"), (1, "s"))
SAID_ALREADY = re.compile(r" *\((?:default: )?%\(default\)s\)")


def commands() -> dict[str, str]:
    """The module of piwheels.cli of each command, from setup.py."""
    for node in ast.parse(SETUP.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMANDS":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    raise LookupError("setup.py has no COMMANDS")


def parser_of(command: str) -> cli.Parser:
    """The parser of a command."""
    module = import_module(f"piwheels.cli.{commands()[command]}")
    make = getattr(module, "parser", None) or module._parser
    made: cli.Parser = make()
    return made


def options(command: str) -> str:
    """What the command does, how to call it, and its own arguments and options."""
    parser = parser_of(command)
    common = {tuple(action.option_strings) for action in cli._common()._actions}
    own = [
        action
        for action in parser._actions
        if tuple(action.option_strings) not in common | {("-h", "--help")}
    ]
    positional = [action for action in own if not action.option_strings]
    optional = [action for action in own if action.option_strings]
    text = f"{parser.description}\n\n```\n{_usage(parser, positional)}\n```\n"
    if positional:
        rows = [[f"`{_metavar(action)}`", _help(action)] for action in positional]
        text += "\n" + table(["argument", "meaning"], rows)
    rows = [[_spelling(action), _default(action), _help(action)] for action in optional]
    text += "\n" + table(["option", "default", "meaning"], rows)
    if doing := actions_of(parser):
        rows = [
            [f"`{name} {_own_words(action)}`".replace(" `", "`"), _what(parser, name)]
            for name, action in doing.items()
        ]
        text += "\n" + table(["action", "does"], rows)
        if own := _own_options(parser, doing):
            text += "\n" + table(["option", "of", "meaning"], own)
    return text


def actions_of(parser: cli.Parser) -> dict[str, argparse.ArgumentParser]:
    """What a command can do: the parsers of its actions, by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _own_words(action: argparse.ArgumentParser) -> str:
    """The arguments of an action, and its options that must be given."""
    words = []
    for each in action._actions:
        if not each.option_strings:
            word = _metavar(each)
            word = {"?": f"[{word}]", "*": f"[{word}…]", "+": f"{word}…"}.get(str(each.nargs), word)
            words.append(word)
        elif each.required:
            words.append(f"{each.option_strings[0]} {_metavar(each)}")
    return " ".join(words)


def _what(parser: cli.Parser, name: str) -> str:
    """What an action does, as the help of its command says."""
    choices = next(
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    return next(str(each.help) for each in choices._choices_actions if each.dest == name)


def _own_options(parser: cli.Parser, doing: dict[str, argparse.ArgumentParser]) -> list[list[str]]:
    """The options that only some actions take."""
    common = {name for action in parser._actions for name in action.option_strings}
    of: dict[tuple[str, str], list[str]] = {}
    for name, action in doing.items():
        for each in action._actions:
            if each.option_strings and each.option_strings[0] not in common:
                of.setdefault((_spelling(each), _help(each)), []).append(f"`{name}`")
    return [[spelling, ", ".join(names), what] for (spelling, what), names in of.items()]


def options_of(parser: cli.Parser) -> set[str]:
    """Every option that may be given to a command or to one of its actions."""
    return {
        name
        for each in (parser, *actions_of(parser).values())
        for action in each._actions
        for name in action.option_strings
    }


def common() -> str:
    """The options that every command has."""
    rows = [["`-h`, `--help`", "say how the command is used, and end"]]
    rows.append(["`--version`", "say which release this is, and end"])
    rows += [
        [_spelling(action), _help(action)]
        for action in cli._common()._actions
        if action.dest != "version"
    ]
    return table(["option", "meaning"], rows)


def _usage(parser: cli.Parser, positional: list[argparse.Action]) -> str:
    words = [parser.prog, "[OPTION…]"]
    for action in positional:
        word = _metavar(action)
        word = {"?": f"[{word}]", "*": f"[{word}…]", "+": f"{word}…"}.get(str(action.nargs), word)
        words.append(word)
    return " ".join(words)


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.replace("_", "-").upper()


def _spelling(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else " " + _metavar(action)
    return ", ".join(f"`{name}{value}`" for name in action.option_strings)


def _help(action: argparse.Action) -> str:
    text = SAID_ALREADY.sub("", action.help or "")
    return text.replace("%%", "%").replace("<", "&lt;")


def _default(action: argparse.Action) -> str:
    value = action.default
    if action.nargs == 0 or value in (None, "", [], argparse.SUPPRESS):
        return ""
    if known := LIVE.get((action.dest, str(value))):
        return known
    if action.type is cli.duration:
        return f"`{_in_units(value, UNITS_OF_TIME)}`"
    if action.type is cli.size:
        return f"`{_in_units(value, BINARY_UNITS)}`" if value else "no limit"
    return f"`{value}`"


def _in_units(value: float, units: tuple[tuple[int, str], ...]) -> str:
    size, letter = next(
        ((size, letter) for size, letter in units if value >= size and value % size == 0), (1, "")
    )
    return f"{value / size:g}{letter}"
