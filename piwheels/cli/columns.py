"""Text in columns, for terminals of any kind and for files."""

import textwrap
from collections.abc import Collection, Iterator, Sequence

WIDTH = 100  # characters of a line
GAP = "  "
NARROWEST = 20  # characters of a column that is broken into lines


def in_columns(
    rows: Sequence[Sequence[str]], broken: Collection[int] = (), right: Collection[int] = ()
) -> Iterator[str]:
    """The lines of a table. *broken*: columns that share what room the others leave, and are
    broken into lines there; *right*: columns of numbers.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = WIDTH - len(GAP) * (len(widths) - 1)
    room -= sum(width for place, width in enumerate(widths) if place not in broken)
    for place in broken:
        widths[place] = min(widths[place], max(NARROWEST, room // len(broken)))
    for row in rows:
        cells = [
            textwrap.wrap(text, widths[place], break_on_hyphens=False) or [""]
            if place in broken
            else [text]
            for place, text in enumerate(row)
        ]
        for number in range(max(map(len, cells))):
            line = GAP.join(
                _padded(cell[number] if number < len(cell) else "", width, place in right)
                for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            yield line.rstrip()


def _padded(text: str, width: int, is_right: bool) -> str:
    return text.rjust(width) if is_right else text.ljust(width)


def paragraph(text: str, indent: str) -> Iterator[str]:
    """The lines of a text, each behind *indent*; words are never broken, so links stay whole."""
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
