"""Which package it was that could not be had, read from what an installer says."""

import re

from packaging.utils import canonicalize_name

NAME = r"(?<![^\s'])([A-Za-z0-9][\w.-]*)"
RANGE = r"(?:\[[^\]]*\])?(?:\{[^}]*\})?(?:[<>=!~]+[^\s,]+(?:,[<>=!~]+[^\s,]+)*)?"

LACKS = (
    # uv: it reasons from what lacks towards what was asked for.
    rf"{NAME} was not found in the ",
    rf"there (?:are|is) no versions? of {NAME}",
    rf"only {NAME}{RANGE} is available",
    rf"only the following versions of {NAME} are available",
    rf"all of: {NAME}{RANGE} ",
    rf"{NAME}{RANGE} ha(?:s|ve) no ",
    rf"{NAME}{RANGE} was yanked",
    rf"does not satisfy Python\S* and (?:all versions of )?{NAME}{RANGE} depends? on",
    # pip, and setuptools when it installs by itself.
    rf"satisfies the requirement {NAME}",
    rf"[Nn]o matching distribution found for {NAME}",
    rf"suitable distribution for Requirement\.parse\('{NAME}",
    rf"working download links found for {NAME}",
)

# Requirements that contradict each other: a release that requires something else would help.
CONTRADICTS = (rf"{NAME}{RANGE} depends? on ",)


def missing_package(said: str) -> str:
    """The normalized name of the package for want of which *said* was said, '' if of none."""
    words = " ".join(said.split())
    for patterns in (LACKS, CONTRADICTS):
        found = [match for pattern in patterns if (match := re.search(pattern, words))]
        if found:
            first = min(found, key=lambda match: match.start())
            return canonicalize_name(first[1].rstrip("._-"))
    return ""
