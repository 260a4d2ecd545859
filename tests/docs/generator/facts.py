"""Tables of what the rules and the schema say."""

import re
from datetime import timedelta
from pathlib import Path

from piwheels.model.builds import FailureClass
from piwheels.rules.failures import CONSEQUENCES, Consequence
from tests.architecture.test_arrows import ARROWS
from tests.docs.generator.blocks import table

MIGRATIONS = Path(__file__).parents[3] / "sql" / "migrations"
BENCHMARKS = Path(__file__).parents[3] / "docs" / "reference" / "benchmarks"
TABLE = re.compile(
    r"CREATE (?:UNLOGGED )?TABLE (\w+) \((?:  -- (?P<why>[^\n]*))?\n(?P<body>.*?)\n\);", re.DOTALL
)
ALTERED = re.compile(r"^ALTER TABLE (\w+)\s(.*?;(?:  --[^\n]*)?)$", re.DOTALL | re.MULTILINE)
INDEX = re.compile(
    r"^CREATE (?P<unique>UNIQUE )?INDEX (?P<name>\w+) ON (\w+) (?P<what>\(.*?);$",
    re.DOTALL | re.MULTILINE,
)
DROPPED = re.compile(r"^DROP INDEX (\w+);", re.MULTILINE)
PADDING = re.compile(r"(?<=\() | (?=\))")
CONSTRAINTS = ("PRIMARY KEY", "UNIQUE", "CHECK", "FOREIGN KEY")


def arrows() -> str:
    """Which part may import which."""
    rows = [
        [f"`{part}`", ", ".join(f"`{name}`" for name in sorted(known)) or "nothing"]
        for part, known in ARROWS.items()
    ]
    return table(["part", "may import"], rows)


def benchmarks() -> str:
    """The pages of benchmarks, by their titles."""
    pages = sorted(path for path in BENCHMARKS.glob("*.md") if path.name != "README.md")
    titles = [path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for path in pages]
    return "".join(f"- [{title}]({page.name})\n" for page, title in zip(pages, titles, strict=True))


def failures() -> str:
    """What follows from each class of failure."""
    rows = [_failure(kind, CONSEQUENCES[kind]) for kind in FailureClass]
    head = ["class", "counts against", "what could help", "attempts", "delay", "then"]
    return table(head, rows)


def _failure(kind: FailureClass, then: Consequence) -> list[str]:
    delay = "none"
    if then.attempts > 1:
        delay = (
            f"{_in_words(then.base)}, three times as long each time, {_in_words(then.cap)} at most"
        )
    return [
        kind,
        then.blame,
        then.remedy,
        str(then.attempts),
        delay,
        "held" if then.hold else "failed",
    ]


def _in_words(delay: timedelta) -> str:
    seconds = int(delay.total_seconds())
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0 and seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "at once"


def schema() -> str:
    """Every table: what it is for, its columns and indexes, after all migrations."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(MIGRATIONS.glob("*.sql")))
    found = {made[1]: (made["why"] or "", _lines(made["body"])) for made in TABLE.finditer(text)}
    for altered in ALTERED.finditer(text):
        _alter(found[altered[1]][1], altered[2])
    parts = []
    for name, (why, lines) in found.items():
        columns = [_column(line, note) for line, note in lines if not line.startswith(CONSTRAINTS)]
        rules = [f"`{line}`" for line, _ in lines if line.startswith(CONSTRAINTS)]
        rules += [
            f"{'unique ' if index['unique'] else ''}index `{index['name']}` on "
            f"`{PADDING.sub('', ' '.join(index['what'].split()))}`"
            for index in _indexes(text)
            if index[3] == name
        ]
        part = f"### {name}\n\n" + (f"{why[0].upper()}{why[1:]}.\n\n" if why else "")
        part += table(["column", "type and rules", "note"], columns)
        parts.append(part + "".join(f"\n- {rule}" for rule in rules) + ("\n" if rules else ""))
    return "\n".join(parts)


def _alter(lines: list[tuple[str, str]], change: str) -> None:
    """Change a table's columns as ALTER TABLE says, each on a line, perhaps with a second."""
    for line in change.splitlines():
        definition, _, comment = (part.strip() for part in line.partition("--"))
        definition = definition.rstrip(",;")
        if definition.startswith("ADD COLUMN "):
            lines.append((definition.removeprefix("ADD COLUMN "), comment))
        elif definition.startswith("DROP COLUMN "):
            gone = definition.removeprefix("DROP COLUMN ")
            lines[:] = [each for each in lines if each[0].split()[0] != gone]
        elif definition.startswith("CHECK "):
            before, note = lines.pop()
            lines.append((f"{before} {definition}", note or comment))


def _indexes(text: str) -> list[re.Match[str]]:
    """Those that no later migration drops, each as it was made last."""
    made = {index["name"]: index for index in INDEX.finditer(text)}
    dropped = {drop[1]: drop.start() for drop in DROPPED.finditer(text)}
    return [index for name, index in made.items() if index.start() > dropped.get(name, -1)]


def _lines(body: str) -> list[tuple[str, str]]:
    """The definitions in a table's parentheses, each with its comment."""
    found = []
    for line in body.splitlines():
        definition, _, comment = line.partition("--")
        if definition.strip():
            found.append((definition.strip().removesuffix(","), comment.strip()))
    return found


def _column(definition: str, note: str) -> list[str]:
    name, _, rest = definition.partition(" ")
    return [f"`{name}`", f"`{rest}`", note]
