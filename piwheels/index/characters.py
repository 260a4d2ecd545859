"""Which characters a page can carry."""

import re

# C0 and C1 controls other than tab and newline; halves of characters, which UTF-8 cannot
# hold and at which uv rejects a whole JSON page; and what Unicode reserves for itself.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(
        f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
    )
    + "]"
)


def printable(text: str) -> str:
    """*text* with U+FFFD for every character that HTML and JSON pages cannot both carry."""
    return _UNPRINTABLE.sub("\ufffd", text)
