"""Tables and diagrams of the conversations, from their transition tables.

The tables name a handler for each pair of state and event. What a handler can return is read
from its source: every `return`, through the functions of its module that it calls, knowing
the types of its arguments.
"""

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from types import ModuleType
from typing import Any

from piwheels.rules import slave_session, transfer
from piwheels.slave import session
from tests.docs.generator.blocks import table

MACHINES: dict[str, tuple[ModuleType, str, str]] = {
    # name: its module, its table, its first state
    "dispatcher": (slave_session, "TRANSITIONS", "Stranger"),
    "slave": (session, "TRANSITIONS", "Greeting"),
    "sender": (transfer, "SENDER", "Offering"),
    "receiver": (transfer, "RECEIVER", "Unknown"),
}
SAYING = ("Say", "Reply")


@dataclass(frozen=True)
class Way:
    """One entry of a table: in *state*, *event* leads to one of *following* and to *actions*."""

    state: str
    event: str
    following: tuple[str, ...]
    actions: tuple[str, ...]


def transitions(machine: str) -> str:
    """The whole table; entries that do the same share a row."""
    events: dict[tuple[str, str, str], list[str]] = {}
    for way in ways(machine):
        is_idle = way.following == (way.state,) and not way.actions
        after = "the same" if is_idle else " or ".join(way.following)
        key = (way.state, after, ", ".join(way.actions) or "nothing")
        events.setdefault(key, []).append(way.event)
    states: dict[tuple[str, str, str], list[str]] = {}
    for (state, after, does), on in events.items():
        states.setdefault((", ".join(on), after, does), []).append(state)
    return table(
        ["in state", "on", "next state", "does"],
        [[", ".join(state), on, after, does] for (on, after, does), state in states.items()],
    )


def diagram(machine: str) -> str:
    """A Mermaid diagram of the ways that lead to another state."""
    edges: dict[tuple[str, str], list[str]] = {}
    for way in ways(machine):
        for following in way.following:
            if following != way.state:
                edges.setdefault((way.state, following), []).append(way.event.strip("`"))
    lines = [f"    [*] --> {MACHINES[machine][2]}"]
    lines += [f"    {one} --> {other}: {', '.join(on)}" for (one, other), on in edges.items()]
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n"


def ways(machine: str) -> list[Way]:
    """Every entry of a machine's table, in the order of the table."""
    module, name, _ = MACHINES[machine]
    found = []
    for (state, event), handler in getattr(module, name).items():
        outcomes = list(_Reading(module, handler, (state.__name__, event.__name__)).outcomes())
        following = tuple(dict.fromkeys(after for after, _ in outcomes))
        actions = tuple(dict.fromkeys(chain.from_iterable(does for _, does in outcomes)))
        found.append(Way(state.__name__, in_words(event), following, actions))
    return found


def in_words(kind: type) -> str:
    """A message as it is called on the wire; other events by their class."""
    return f"`{kind.__name__.upper()}`" if "protocol" in kind.__module__ else kind.__name__


@cache
def _source(function: Callable[..., Any]) -> ast.FunctionDef:
    node = ast.parse(inspect.getsource(function)).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


Outcome = tuple[str, tuple[str, ...]]  # the next state, and the actions


class _Reading:
    """Reads one function of *module*, called with values of the types *given* ('' unknown)."""

    def __init__(
        self, module: ModuleType, function: Callable[..., Any], given: Sequence[str]
    ) -> None:
        self.module = module
        self.function = _source(function)
        self.types: Mapping[str, str] = {
            argument.arg: given[place] if place < len(given) else ""
            for place, argument in enumerate(self.function.args.args)
        }
        self.assigned = dict(chain.from_iterable(map(_assignments, ast.walk(self.function))))

    def outcomes(self) -> Iterator[Outcome]:
        """What it can return."""
        for value in self._returns(self.function.body):
            yield from self._outcomes_of(value)

    def _returns(self, body: Sequence[ast.stmt]) -> Iterator[ast.expr]:
        for statement in body:
            match statement:
                case ast.Return(value=ast.expr() as value):
                    yield value
                case ast.If(test=test, body=then, orelse=otherwise):
                    truth = self._truth(test)
                    if truth is not False:
                        yield from self._returns(then)
                    if truth is not True:
                        yield from self._returns(otherwise)

    def _truth(self, test: ast.expr) -> bool | None:
        """Whether a test holds, as far as the types of the arguments tell."""
        match test:
            case ast.Call(
                func=ast.Name(id="isinstance"), args=[ast.Name(id=name), ast.Name(id=kind)]
            ):
                return self.types[name] == kind if self.types.get(name) else None
            case ast.BoolOp(op=ast.And(), values=values):
                truths = [self._truth(value) for value in values]
                return False if False in truths else None
        return None

    def _choices(self, value: ast.IfExp) -> list[ast.expr]:
        truth = self._truth(value.test)
        return [value.body] * (truth is not False) + [value.orelse] * (truth is not True)

    def _call(self, call: ast.Call) -> "_Reading":
        """A call of another function of the module."""
        assert isinstance(call.func, ast.Name)
        types = [next(iter(self._states(argument)), "") for argument in call.args]
        return _Reading(self.module, getattr(self.module, call.func.id), types)

    def _outcomes_of(self, value: ast.expr) -> Iterator[Outcome]:
        match value:
            case ast.IfExp():
                for choice in self._choices(value):
                    yield from self._outcomes_of(choice)
            case ast.Call(func=ast.Name()):
                yield from self._call(value).outcomes()
            case ast.Tuple(elts=[state, actions]):
                for after in self._states(state):
                    yield after, tuple(self._actions(actions))
            case _:
                raise self._unread(value)

    def _states(self, value: ast.expr) -> list[str]:
        """The types that a value can have; [] where it is no state."""
        match value:
            case ast.Call(func=ast.Name(id="replace"), args=[state, *_]):
                return self._states(state)
            case ast.Call(func=ast.Name(id=name)) if name[0].isupper():
                return [name]
            case ast.Call(func=ast.Name(id=name)) if hasattr(self.module, name):
                return [after for after, _ in self._call(value).outcomes()]
            case ast.IfExp():
                return [state for choice in self._choices(value) for state in self._states(choice)]
            case ast.Name(id=name) if name in self.assigned:
                return self._states(self.assigned[name])
            case ast.Name(id=name) if self.types.get(name):
                return [self.types[name]]
        return []

    def _actions(self, value: ast.expr) -> Iterator[str]:
        """What a list of actions does, however it is written."""
        match value:
            case ast.List(elts=elements):
                for element in elements:
                    yield from self._action(element)
            case ast.ListComp(elt=element):
                yield from self._action(element)
            case ast.IfExp():
                for choice in self._choices(value):
                    yield from self._actions(choice)
            case ast.Name(id=name):
                yield from self._actions(self.assigned[name])
            case ast.Call(func=ast.Name()):
                for _, does in self._call(value).outcomes():
                    yield from does
            case _:
                raise self._unread(value)

    def _action(self, value: ast.expr) -> Iterator[str]:
        match value:
            case ast.Call(func=ast.Name(id=name), args=[message]) if name in SAYING:
                yield f"say {' or '.join(self._messages(message))}"
            case ast.Call(func=ast.Name(id=name)):
                yield name
            case ast.Name(id=name):
                yield from self._action(self.assigned[name])
            case ast.Starred(value=several):
                yield from self._actions(several)
            case _:
                raise self._unread(value)

    def _messages(self, value: ast.expr) -> list[str]:
        match value:
            case ast.Call(func=ast.Name(id=name)):
                return [f"`{name.upper()}`"]
            case ast.IfExp():
                return [one for choice in self._choices(value) for one in self._messages(choice)]
            case ast.Attribute(attr="verdict"):
                return ["`STORED`", "`REFUSED`"]
            case ast.Attribute(attr=attribute):
                return [f"`{attribute.upper()}`"]
            case ast.Name(id=name) if name in self.assigned:
                return self._messages(self.assigned[name])
            case ast.Name(id=name):
                return [f"`{one.upper()}`" for one in self._annotation(name).split(" | ")]
        raise self._unread(value)

    def _annotation(self, name: str) -> str:
        arguments = {each.arg: each.annotation for each in self.function.args.args}
        annotation = arguments[name]
        return ast.unparse(annotation) if annotation else self.types[name]

    def _unread(self, value: ast.expr) -> NotImplementedError:
        return NotImplementedError(f"{self.function.name}: cannot read {ast.unparse(value)}")


def _assignments(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they get; of a call that gives a pair, the call."""
    match node:
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
            for one, value in zip(names, values, strict=True):
                yield ast.unparse(one), value
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=value):
            for one in names:
                yield ast.unparse(one), value
