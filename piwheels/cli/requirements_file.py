"""Files of requirements, as pip reads them: which packages they name."""

import warnings
from pathlib import Path

import requirements
from packaging.requirements import InvalidRequirement, Requirement

from piwheels.cli.options import BadUsage
from piwheels.model.errors import BadName
from piwheels.model.names import normalize

Named = tuple[str, str]
"""A normalized name, and a specifier or ''."""


def read_requirements(path: Path) -> tuple[list[Named], list[str]]:
    """The requirements in a file and in those it includes, and notes on what plays no part.

    Extras and markers say nothing of what is to be built; hashes and options of pip neither.
    What comes from elsewhere than an index is left out, and noted. Raise BadUsage.

    Source: pip's requirements file format.
    """
    found: dict[Named, None] = {}
    try:
        with path.open(encoding="utf-8") as lines, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            parsed = list(requirements.parse(lines))
    except OSError as error:
        where = error.filename or path
        raise BadUsage(f"cannot read {where}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        first = next(iter(str(error).splitlines()), "it cannot be parsed")
        raise BadUsage(f"{path} is no file of requirements: {first}") from error
    notes = [str(each.message) for each in said]
    for each in parsed:
        named = _named(each.line)
        if named is None:
            notes.append(f"left out, since it is not from an index: {each.line}")
        else:
            found[named] = None
    if not found:
        raise BadUsage(f"{path} names no package: write one requirement a line, as six==1.16.0")
    return list(found), notes


def _named(line: str) -> Named | None:
    try:
        requirement = Requirement(line.partition(" #")[0])
        if requirement.url:
            return None
        return normalize(requirement.name), str(requirement.specifier)
    except (InvalidRequirement, BadName):
        return None
