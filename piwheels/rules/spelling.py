"""Names that somebody may have meant who wrote one that is not there."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"
MUCH = 0.15  # likeness; of what is so much less like than the best, nothing is said
LONGEST = 40  # characters of a name whose neighbours are all tried


def one_letter_off(name: str) -> set[str]:
    """Every name that *name* becomes by one slip: a letter too many, too few, wrong or swapped.

    Some 75 for each letter, so that an index can be asked for all of them at once. Most slips
    are of this kind. Source: Norvig, How to Write a Spelling Corrector.
    """
    if len(name) > LONGEST:
        return set()
    parts = [(name[:place], name[place:]) for place in range(len(name) + 1)]
    fewer = {head + tail[1:] for head, tail in parts if tail}
    swapped = {head + tail[1] + tail[0] + tail[2:] for head, tail in parts if len(tail) > 1}
    wrong = {head + letter + tail[1:] for head, tail in parts if tail for letter in LETTERS}
    more = {head + letter + tail for head, tail in parts for letter in LETTERS}
    return (fewer | swapped | wrong | more) - {name, ""}


def nearest(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """The *most* of *names* that look most like *name*, the likest first."""
    found = get_close_matches(name, sorted(set(names)), most, cutoff=0.6)
    return [each for each in found if _likeness(name, each) > _likeness(name, found[0]) - MUCH]


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A question that names the nearest of *names*, or ''."""
    near = nearest(name, names)
    return f"did you mean {' or '.join(near)}?" if near else ""
