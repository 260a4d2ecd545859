"""The codec against honest messages and hostile bytes."""

import dataclasses
import typing
from datetime import UTC, datetime
from enum import Enum
from types import NoneType, UnionType

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voluptuous import Length, Match, Range

from piwheels.model.errors import BadMessage
from piwheels.protocol import admin, codec, files, slave, status

VOCABULARIES = {
    "from slave": slave.FROM_SLAVE,
    "to slave": slave.TO_SLAVE,
    "from sender": files.FROM_SENDER,
    "from receiver": files.FROM_RECEIVER,
    "from tool": admin.FROM_TOOL,
    "from admin": admin.FROM_ADMIN,
    "from status": status.FROM_STATUS,
}
MESSAGES = [
    pytest.param(vocabulary, message, id=f"{name}: {message.__name__}")
    for name, vocabulary in VOCABULARIES.items()
    for message in vocabulary.messages.values()
]
VOCABULARY = st.sampled_from(list(VOCABULARIES.values()))

SCALARS = {
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    datetime: st.datetimes(
        min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
    ).map(lambda moment: moment.replace(microsecond=0)),
    float: st.floats(allow_nan=False, allow_infinity=False),
    int: st.integers(-(2**63), 2**63 - 1),
    str: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
}


def values(annotation):
    """A strategy for values that keep the rules written in *annotation*."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return limited(arguments[0], annotation.__metadata__)
    if origin in (typing.Union, UnionType):
        inner = next(argument for argument in arguments if argument is not NoneType)
        return st.none() | values(inner)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if dataclasses.is_dataclass(annotation):
        return instances(annotation)
    if issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    return SCALARS[annotation]


def limited(kind, rules):
    if typing.get_origin(kind) is typing.Annotated:
        kind, rules = typing.get_args(kind)[0], (*kind.__metadata__, *rules)
    for rule in rules:
        if isinstance(rule, Match):
            return st.from_regex(rule.pattern, fullmatch=True).filter(lambda text: "\0" not in text)
    bounds = next((rule for rule in rules if isinstance(rule, Range | Length)), None)
    if isinstance(bounds, Range) and kind is int:
        return st.integers(bounds.min or 0, bounds.max or 2**63 - 1)
    if isinstance(bounds, Range):
        return st.floats(bounds.min, bounds.max)
    low, high = bounds.min or 0, min(bounds.max or 20, max(20, bounds.min or 0))
    if kind is str:
        return st.text(SCALARS_ALPHABET, min_size=low, max_size=high)
    if kind is bytes:
        return st.binary(min_size=low, max_size=high)
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return st.lists(values(inner[0]), min_size=low, max_size=low + 2).map(tuple)
    return st.dictionaries(values(inner[0]), values(inner[1]), max_size=2)


SCALARS_ALPHABET = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


def instances(message):
    hints = typing.get_type_hints(message, include_extras=True)
    return st.builds(message, **{name: values(hint) for name, hint in hints.items()})


@pytest.mark.parametrize(("vocabulary", "message"), MESSAGES)
def test_a_message_comes_back_as_it_was_sent(vocabulary, message):
    @given(instances(message))
    @settings(max_examples=15, deadline=None)
    def comes_back(value):
        assert vocabulary.decode(vocabulary.encode(value)) == value

    comes_back()


@given(VOCABULARY, st.binary(max_size=300))
def test_random_bytes_are_a_bad_message(vocabulary, frame):
    with pytest.raises(BadMessage):
        vocabulary.decode(frame)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(VOCABULARY, TREES)
def test_any_other_cbor_is_a_bad_message(vocabulary, tree):
    with pytest.raises(BadMessage):
        vocabulary.decode(cbor2.dumps(tree))


@pytest.mark.parametrize(("vocabulary", "message"), MESSAGES)
def test_a_field_of_the_wrong_kind_is_a_bad_message(vocabulary, message):
    fields = [field.name for field in dataclasses.fields(message)]

    @given(instances(message), st.data())
    @settings(max_examples=15, deadline=None)
    def is_refused(value, data):
        tree = cbor2.loads(vocabulary.encode(value))
        tree[data.draw(st.sampled_from(fields))] = cbor2.undefined
        with pytest.raises(BadMessage):
            vocabulary.decode(cbor2.dumps(tree))

    if fields:
        is_refused()


@pytest.mark.parametrize(("vocabulary", "message"), MESSAGES)
def test_a_truncated_message_is_a_bad_message(vocabulary, message):
    @given(instances(message), st.data())
    @settings(max_examples=10, deadline=None)
    def is_refused(value, data):
        frame = vocabulary.encode(value)
        cut = data.draw(st.integers(0, len(frame) - 1))
        with pytest.raises(BadMessage):
            vocabulary.decode(frame[:cut])

    is_refused()


def test_a_field_from_a_newer_version_is_ignored():
    frame = cbor2.dumps({"type": "SENT", "lease": b"x" * 16, "colour": "red"})
    assert slave.FROM_SLAVE.decode(frame) == slave.Sent(b"x" * 16)


def test_a_field_that_an_older_version_does_not_send_takes_its_default():
    frame = cbor2.dumps({"type": "BUSY", "lease": b"x" * 16, "phase": "building"})
    assert slave.FROM_SLAVE.decode(frame).log_tail == ""


HOSTILE = {
    "nesting": b"\x81" * 100_000,
    "endless list": b"\x9f",
    "endless text": b"\x7f",
    "huge list announced": b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    "huge bytes announced": b"\x5b\x00\x00\xff\xff\xff\xff\xff\xff",
    "big integer": cbor2.dumps(2**80),
    "shared reference": b"\xd8\x1c\x81\xd8\x1d\x00",
    "unknown tag": cbor2.dumps(cbor2.CBORTag(31337, "x")),
    "date tag": cbor2.dumps(datetime(2026, 1, 1, tzinfo=UTC)),
    "duplicate key": b"\xa2\x64type\x63BYE\x64type\x63BYE",
    "map as type": cbor2.dumps({"type": {"a": 1}}),
    "list as type": cbor2.dumps({"type": ["BYE"]}),
    "too large": b"\x00" * (codec.LARGEST_FRAME + 1),
    "invalid text": b"\xa1\x64type\x63\xff\xff\xff",
    "regular expression": b"\xd8\x23\x68(a+)+$!!",
    "not a number": cbor2.dumps({"type": "SLEEP", "seconds": float("nan"), "reason": ""}),
    "infinity": cbor2.dumps({"type": "SLEEP", "seconds": float("inf"), "reason": ""}),
    "a bool as number": cbor2.dumps({"type": "SLEEP", "seconds": True, "reason": ""}),
}


@pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES.keys())
def test_hostile_bytes_are_a_bad_message(vocabulary, frame):
    with pytest.raises(BadMessage):
        vocabulary.decode(frame)


@pytest.mark.parametrize(
    "name", ["../x.whl", "/x.whl", ".x.whl", "x/y.whl", "", "x\0y", "x\n", "a" * 256, "-x"]
)
def test_a_file_name_that_could_leave_its_folder_is_a_bad_message(name):
    put = {"type": "PUT", "lease": b"x" * 16, "name": name, "size": 1, "sha256": "0" * 64}
    with pytest.raises(BadMessage):
        files.FROM_SENDER.decode(cbor2.dumps(put))


def test_a_message_of_another_socket_cannot_be_sent():
    with pytest.raises(TypeError):
        slave.TO_SLAVE.encode(slave.Bye())
