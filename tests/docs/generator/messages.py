"""The messages of a socket, field by field, from the source of their dataclasses."""

import ast
import inspect
import re
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from piwheels.protocol.codec import Vocabulary
from tests.docs.generator.blocks import table

BASES = {"str": "text", "bytes": "bytes", "int": "integer", "float": "number", "bool": "yes or no"}
MOST = {"max": "at most", "min": "at least"}


def messages(module_name: str) -> str:
    """Everything that the module defines: first the messages, then what they are made of."""
    module = import_module(f"piwheels.protocol.{module_name}")
    spoken = {message for words in _vocabularies(module) for message in words.messages.values()}
    own = [value for value in vars(module).values() if _is_of(value, module)]
    parts = [_message(kind, kind.__name__.upper()) for kind in own if kind in spoken]
    if rest := [_message(kind, kind.__name__) for kind in own if kind not in spoken]:
        parts += ["### Parts of messages\n", *(part.replace("###", "####", 1) for part in rest)]
    return "\n".join(parts)


def vocabularies(module_name: str) -> str:
    """Who may say what."""
    module = import_module(f"piwheels.protocol.{module_name}")
    rows = [
        [f"`{name}`", ", ".join(f"`{message}`" for message in value.messages)]
        for name, value in vars(module).items()
        if isinstance(value, Vocabulary)
    ]
    return table(["vocabulary", "messages"], rows)


def kinds(module_name: str) -> str:
    """The kinds of field and the numbers that a module of piwheels.protocol defines."""
    source = inspect.getsource(import_module(f"piwheels.protocol.{module_name}"))
    rows = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and (meaning := _meaning(node.value)):
            note = source.splitlines()[node.lineno - 1].partition("  # ")[2]
            rows.append([f"`{ast.unparse(node.targets[0])}`", meaning, note])
    return table(["name", "what it is", "note"], rows)


def _meaning(value: ast.expr) -> str:
    match value:
        case ast.Subscript():
            return _in_words(value)
        case ast.BinOp() | ast.Constant():
            return f"`{ast.unparse(value)}`"
    return ""


def _vocabularies(module: ModuleType) -> list[Vocabulary]:
    return [value for value in vars(module).values() if isinstance(value, Vocabulary)]


def _is_of(value: object, module: ModuleType) -> bool:
    return is_dataclass(value) and getattr(value, "__module__", "") == module.__name__


def _message(kind: type, title: str) -> str:
    node = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(node, ast.ClassDef)
    rows = [
        [f"`{ast.unparse(field.target)}`", _in_words(field.annotation), _default(field.value)]
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    ]
    text = f"### {title}\n\n{_prose(kind)}\n"
    return text + ("\n" + table(["field", "what it is", "if left out"], rows) if rows else "")


def _prose(kind: Any) -> str:
    text = re.sub(r"\*(\w+)\*", r"`\1`", inspect.getdoc(kind) or "")
    names = "|".join(field.name for field in dataclass_fields(kind)) or "-"
    return re.sub(rf"\b({names})(?=:)", r"`\1`", text)


def _default(value: ast.expr | None) -> str:
    match value:
        case None:
            return "(required)"
        case ast.Call(keywords=[ast.keyword(arg="default_factory", value=made)]):
            return "empty" if ast.unparse(made) in ("dict", "tuple") else "all defaults"
        case ast.Tuple(elts=[]):
            return "empty"
    return {"''": "empty", "None": "none", "False": "no", "True": "yes"}.get(
        ast.unparse(value), f"`{ast.unparse(value)}`"
    )


def _in_words(annotation: ast.expr) -> str:
    match annotation:
        case ast.BinOp(left=kind, op=ast.BitOr()):
            return f"{_in_words(kind)}, or none"
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *rules])):
            return ", ".join([_in_words(kind), *map(_rule, rules)])
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[kind, _])):
            inner = _in_words(kind)
            return f"list of ({inner})" if "," in inner else f"list of {inner}"
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, value])):
            return f"map from {_in_words(key)} to {_in_words(value)}"
        case ast.Name(id="datetime"):
            return "moment"
        case ast.Name(id=name):
            return BASES.get(name, f"`{name}`")
    raise NotImplementedError(ast.unparse(annotation))


def _rule(rule: ast.expr) -> str:
    match rule:
        case ast.Call(func=ast.Name(id="Match"), args=[ast.Constant(value=str() as pattern)]):
            return f"matching `{pattern}`"
        case ast.Call(func=ast.Name(id=name), keywords=limits):
            numbers = {str(limit.arg): ast.unparse(limit.value) for limit in limits}
            unit = " long" if name == "Length" else ""
            if len(set(numbers.values())) == 1 and len(numbers) == 2:
                return f"exactly {numbers['min']}{unit}"
            return " and ".join(f"{MOST[word]} {number}" for word, number in numbers.items()) + unit
    raise NotImplementedError(ast.unparse(rule))
