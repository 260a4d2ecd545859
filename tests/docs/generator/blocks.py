"""Generated blocks of a Markdown page: between a comment that names them and one that ends them.

<!-- generated: options piw-add -->
…
<!-- end -->
"""

import re
from collections.abc import Callable, Mapping, Sequence

BLOCK = re.compile(
    r"(?P<begin><!-- generated: (?P<kind>\w+)(?P<words>(?: [\w.-]+)*) -->\n)"
    r"(?P<content>.*?)"
    r"(?P<end><!-- end -->)",
    re.DOTALL,
)

Render = Callable[..., str]


def names(text: str) -> list[str]:
    """What a page's blocks are called: ['options piw-add']."""
    return [found["kind"] + found["words"] for found in BLOCK.finditer(text)]


def renew(text: str, renders: Mapping[str, Render]) -> str:
    """Return a page with each of its blocks as the code now has it."""

    def fresh(found: re.Match[str]) -> str:
        content = renders[found["kind"]](*found["words"].split())
        return f"{found['begin']}\n{content.strip()}\n\n{found['end']}"

    return BLOCK.sub(fresh, text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; cells may hold line breaks, which become spaces."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
