"""The queue's one rule: which targets a version waits for, and why not the others.

The table ``queue`` is this rule's result, kept row by row; pages and ``piw-why`` show the
same standings. DESIGN §6.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from piwheels.model.builds import FailureClass
from piwheels.model.queue import Lane, State, Verdict, Version
from piwheels.model.targets import Target
from piwheels.rules.coverage import covers
from piwheels.rules.failures import CONSEQUENCES, Remedy, next_try
from piwheels.rules.resources import in_words

TOO_SMALL = frozenset({FailureClass.OUT_OF_MEMORY})  # what more memory may cure


def verdicts(version: Version, targets: Iterable[Target]) -> dict[int, Verdict]:
    """How *version* stands on each active target, by target_id."""
    in_order = sorted(
        (target for target in targets if target.active),
        key=lambda target: (target.rank, target.name),
    )
    found = {target.target_id: _alone(version, target) for target in in_order}
    if is_known_native(version):
        return found
    return _one_at_a_time(in_order, found)


def is_known_native(version: Version) -> bool:
    """Whether one target's wheel is known not to do for all.

    Shown by a wheel of ours that left some target uncovered, or by PyPI's own wheels.
    """
    return bool(version.file_tags) or is_native_on_pypi(version.pypi_tags)


def is_native_on_pypi(tags: frozenset[str]) -> bool:
    """Whether PyPI has wheels of a version and none of them is pure."""
    return bool(tags) and not any(tag.endswith("-none-any") for tag in tags)


def _alone(version: Version, target: Target) -> Verdict:
    """How *version* stands on *target*, as if there were no other targets."""
    if target.target_id in version.building:
        return Verdict(State.BUILDING)
    if covers(version.file_tags, target.tags):
        return Verdict(State.DONE)
    if version.policy == "missing" and covers(version.pypi_tags, target.tags):
        return Verdict(State.DONE, "PyPI has a wheel")
    if version.lane is None:
        return Verdict(State.UNWANTED)
    if reason := version.target_skips.get(target.target_id, "") or left_out(version):
        return Verdict(State.SKIPPED, reason)
    if not version.has_sdist:
        return Verdict(State.NO_SDIST)
    if not admits(version.requires_python, target.python):
        return Verdict(State.UNSUPPORTED, f"requires Python {version.requires_python}")
    return _after_failures(version, target)


def left_out(version: Version) -> str:
    """Why *version* is built nowhere, or ''. What an operator asked for by hand is not left
    out by the rules that are made for many.
    """
    if version.skip or version.lane == Lane.MANUAL:
        return version.skip
    if version.yanked is not None:
        return f"yanked: {version.yanked}" if version.yanked else "yanked"
    if version.is_prerelease and version.prereleases == "never":
        return "pre-releases of this package are not built"
    if version.keep is not None and version.newer >= version.keep:
        return f"only the newest {version.keep} versions of this package are built"
    return ""


def _after_failures(version: Version, target: Target) -> Verdict:
    """What follows from how *version* failed on *target*, if it ever did."""
    failures = version.failures.get(target.target_id, ())
    lane = _lane(version)
    size = min(version.sizes.get(target.target_id, 0), target.size)
    if not failures:
        return Verdict(State.WAITING, lane=lane, size=size)
    last = failures[-1]
    attempts = sum(failure.kind == last.kind for failure in failures)
    delay = next_try(last.kind, attempts, jitter(last.build_id))
    if delay is None:
        state = State.HELD if CONSEQUENCES[last.kind].hold else State.FAILED
        return Verdict(state, last.kind, attempts=len(failures))
    size = max([size, *(each.size + 1 for each in failures if each.kind in TOO_SMALL)])
    if size > target.size:
        reason = f"{last.kind}: no slave of this target has {in_words(size)} of memory"
        return Verdict(State.HELD, reason, attempts=len(failures))
    return Verdict(
        State.WAITING,
        last.kind,
        last.ended + delay,
        len(failures),
        lane=lane,
        size=size,
        avoid=last.slave_id if CONSEQUENCES[last.kind].remedy is Remedy.ELSEWHERE else None,
    )


def _lane(version: Version) -> int:
    assert version.lane is not None  # else the verdict were UNWANTED
    if version.is_prerelease and version.prereleases == "last" and version.lane != Lane.MANUAL:
        return Lane.LAST
    return version.lane


def jitter(build_id: int) -> float:
    """A fraction in [0, 1) that differs between builds and is the same each time asked."""
    return build_id * 0.618_033_988_749_894_9 % 1


@lru_cache(10_000)  # a few thousand spellings serve millions of versions
def admits(requires_python: str, python: str) -> bool:
    """Whether *python* satisfies a Requires-Python, as pip decides: pre-releases count, and
    one that cannot be read admits all.
    """
    try:
        return SpecifierSet(requires_python).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True


def _one_at_a_time(targets: Sequence[Target], found: dict[int, Verdict]) -> dict[int, Verdict]:
    """Let only the first target in rank wait, as long as one wheel may do for all."""
    first: Target | None = next(
        (target for target in targets if found[target.target_id].state is State.BUILDING), None
    )
    for target in targets:
        if found[target.target_id].state is not State.WAITING:
            continue
        if first is None:
            first = target
        else:
            found[target.target_id] = Verdict(State.DEFERRED, f"{first.name} tries first")
    return found
