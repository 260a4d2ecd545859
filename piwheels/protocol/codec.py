"""Messages as CBOR maps, checked against the annotations of their dataclasses.

A message is a frozen dataclass. Its annotations are its schema: ``Annotated[str,
Length(max=80)]`` is both the type that mypy reads and the rule that a peer must keep. A
socket speaks a Vocabulary: a set of messages; nothing else can be decoded on it. Unknown
fields are ignored, so that two ends may differ by one version.
"""

import math
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import cbor2
from voluptuous import Invalid

from piwheels.model.errors import BadMessage

LARGEST_FRAME = 4 * 1024**2  # bytes; a file chunk is the largest thing ever sent
DEEPEST_NESTING = 8
BUILT_IN_TAGS = frozenset(
    {0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799}
)


class Vocabulary:
    """The messages that may arrive on one side of one socket."""

    def __init__(self, *messages: type) -> None:
        self.messages = {message.__name__.upper(): message for message in messages}

    def decode(self, frame: bytes) -> Any:
        """Return the message in *frame*, one of this vocabulary's. Raise BadMessage."""
        tree = _load(frame)
        if not isinstance(tree, dict) or not isinstance(name := tree.get("type"), str):
            raise BadMessage("not a map with a type")
        message = self.messages.get(name)
        if message is None:
            raise BadMessage(f"no message {name[:40]!r} on this socket")
        try:
            return schema_of(message)(tree)
        except Invalid as error:
            raise BadMessage(f"{name}: {error}"[:300]) from error

    def encode(self, message: object) -> bytes:
        """Return *message*, one of this vocabulary's, as a frame."""
        name = type(message).__name__.upper()
        if self.messages.get(name) is not type(message):
            raise TypeError(f"{name} is not in this vocabulary")
        return cbor2.dumps({"type": name, **_plain(message)})


def _refuse_tag(*_: object) -> object:
    raise ValueError("tags are not spoken here")


def _load(frame: bytes) -> object:
    if len(frame) > LARGEST_FRAME:
        raise BadMessage(f"a frame of {len(frame)} bytes")
    try:
        return cbor2.loads(
            frame,
            max_depth=DEEPEST_NESTING,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            tag_hook=_refuse_tag,
            semantic_decoders=dict.fromkeys(BUILT_IN_TAGS, _refuse_tag),
        )
    except (cbor2.CBORError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise BadMessage(f"not CBOR: {error}"[:300]) from error


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


Rule = Callable[[Any], Any]
"""Turns a plain CBOR value into what a field holds. It raises voluptuous.Invalid."""


@cache
def schema_of(annotation: Any) -> Rule:
    """Return the rule for values of *annotation*.

    Understood: scalars, datetime (sent as seconds since the epoch), enumerations,
    tuple[X, ...], dict[str, X], X | None, dataclasses and Annotated with voluptuous
    validators. Voluptuous' own schemas of maps would do the same, at four times the cost; the
    dispatcher decodes thousands of messages a second.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _all(schema_of(arguments[0]), annotation.__metadata__)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return _maybe(schema_of(inner))
    if origin is tuple:
        return _tuple_of(schema_of(arguments[0]))
    if origin is dict:
        return _dict_of(schema_of(arguments[0]), schema_of(arguments[1]))
    if is_dataclass(annotation):
        return _dataclass(annotation)
    if issubclass(annotation, Enum):
        return _member_of(annotation)
    return SCALARS[annotation]  # a KeyError here is a field that cannot travel


def _all(first: Rule, others: tuple[Rule, ...]) -> Rule:
    def check(value: Any) -> Any:
        value = first(value)
        for rule in others:
            value = rule(value)
        return value

    return check


def _maybe(inner: Rule) -> Rule:
    return lambda value: None if value is None else inner(value)


def _tuple_of(inner: Rule) -> Rule:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise Invalid("expected a list")
        return tuple(map(inner, value))

    return check


def _dict_of(key: Rule, inner: Rule) -> Rule:
    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise Invalid("expected a map")
        return {key(name): inner(each) for name, each in value.items()}

    return check


def _member_of(enumeration: type[Enum]) -> Rule:
    members = {member.value: member for member in enumeration}

    def check(value: Any) -> Any:
        if type(value) is not str or value not in members:
            raise Invalid(f"expected one of {enumeration.__name__}")
        return members[value]

    return check


def _dataclass(message: Any) -> Rule:
    hints = get_type_hints(message, include_extras=True)
    rules = [
        (field.name, schema_of(hints[field.name]), _is_required(field)) for field in fields(message)
    ]

    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise Invalid("expected a map")
        found = {}
        for name, rule, is_required in rules:
            if name in value:
                try:
                    found[name] = rule(value[name])
                except Invalid as error:
                    error.prepend([name])
                    raise
            elif is_required:
                raise Invalid("required key not provided", path=[name])
        return message(**found)

    return check


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _exactly(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise Invalid(f"expected {kind.__name__}")
        return value

    return check


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Invalid("expected a number")
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str or "\0" in value:  # PostgreSQL stores no NUL
        raise Invalid("expected text")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise Invalid("expected an integer of 64 bits")
    return value


def _moment(value: Any) -> datetime:
    try:
        return datetime.fromtimestamp(_number(value), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Invalid("expected seconds since the epoch") from error


SCALARS: dict[type, Callable[[Any], Any]] = {
    bool: _exactly(bool),
    bytes: _exactly(bytes),
    datetime: _moment,
    float: _number,
    int: _integer,
    str: _text,
}
