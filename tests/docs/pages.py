"""The pages of the documentation and what stands in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Link:
    """A link on a page: to another page, to a heading, or to both."""

    page: Path
    target: str

    @property
    def path(self) -> Path:
        """The file it leads to."""
        name = self.target.partition("#")[0]
        return (self.page.parent / name).resolve() if name else self.page

    @property
    def fragment(self) -> str:
        """The heading it leads to, '' for none."""
        return self.target.partition("#")[2]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)} -> {self.target}"


def identify(path: Path) -> str:
    """A page's name in the names of tests."""
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """What a page says besides code and comments."""
    text = COMMENT.sub("", page.read_text(encoding="utf-8"))
    return INLINE.sub("code", FENCE.sub("", text))


def links(page: Path) -> Iterator[Link]:
    """The links of a page to this repository."""
    for target in LINK.findall(prose(page)):
        if not target.startswith(("http://", "https://", "mailto:")):
            yield Link(page, target)


def anchors(page: Path) -> set[str]:
    """What links may name on a page, as forges make it from headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {anchor(heading) for heading in HEADING.findall(text)}


def anchor(heading: str) -> str:
    """The fragment of a heading: lower case, no punctuation, dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
