"""The arrows of the design: which part may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "piwheels"
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")

# What a part may import of the project, itself apart. `cli` may import everything.
ARROWS = {
    "model": set(),
    "protocol": {"model"},
    "rules": {"model", "protocol"},
    "transport": {"model", "protocol"},
    "processes": {"model"},
    "database": {"model"},
    "pypi": {"model"},
    "index": {"model"},
    "slave": {"model", "rules", "protocol", "transport", "processes"},
    "monitor": {"model", "rules", "protocol", "transport"},
    "farm": {"model", "rules", "protocol", "transport", "processes"},
    "master": {
        "model", "rules", "protocol", "transport", "processes", "database", "pypi", "index",
    },
}  # fmt: skip

# Libraries that only one part may import.
OWNERS = {
    "zmq": {"transport"},
    "cbor2": {"protocol"},
    "voluptuous": {"protocol"},
    "psycopg2": {"database", "farm"},
    "yoyo": {"database"},
    "pypi_simple": {"pypi", "cli"},
    "ijson": {"pypi"},
    "defusedxml": {"pypi"},
    "chameleon": {"index"},
    "configargparse": {"cli"},
}

# The pure parts read no clock, no socket, no process, and write no log.
PURE = ("model/", "rules/", "protocol/", "slave/session.py", "monitor/farm_view.py")
IMPURE = {"zmq", "sqlalchemy", "psycopg2", "requests", "subprocess", "logging", "time", "socket"}
CLOCKS = {"now", "utcnow", "today", "time", "monotonic"}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = node.module or ""
            found.add(module)
            if module == "piwheels":
                found |= {f"piwheels.{alias.name}" for alias in node.names}
    return found


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def is_pure(path: Path) -> bool:
    return identify(path).startswith(PURE)


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_a_module_imports_only_the_parts_its_own_may_know(path):
    part = part_of(path)
    if part == "cli":
        return
    parts = {name.split(".")[1] for name in imports_of(path) if name.startswith("piwheels.")}
    assert parts - {part, "__version__"} <= ARROWS[part]


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_a_library_with_one_owner_is_imported_by_no_other_part(path):
    libraries = {name.partition(".")[0] for name in imports_of(path)}
    part = part_of(path)
    assert {name for name in libraries & OWNERS.keys() if part not in OWNERS[name]} == set()


def test_only_database_and_the_master_that_calls_it_import_sqlalchemy():
    users = {part_of(path) for path in MODULES if "sqlalchemy" in str(imports_of(path))}
    assert users - {"cli"} <= {"database", "master"}


@pytest.mark.parametrize("path", [path for path in MODULES if is_pure(path)], ids=identify)
def test_a_pure_module_imports_nothing_impure(path):
    assert {name.partition(".")[0] for name in imports_of(path)} & IMPURE == set()


@pytest.mark.parametrize("path", [path for path in MODULES if is_pure(path)], ids=identify)
def test_a_pure_module_reads_no_clock(path):
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert calls & CLOCKS == set()


def test_every_part_has_its_arrows():
    assert {part_of(path) for path in MODULES} - {"cli"} <= ARROWS.keys()
