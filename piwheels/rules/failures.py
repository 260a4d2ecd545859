"""Why a build failed, read from its log; and what follows from each reason."""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from piwheels.model.builds import Failure, FailureClass
from piwheels.rules.clues import CLUES
from piwheels.rules.unsatisfied import missing_package

LONGEST_LINE = 200
LONGEST_TAIL = 48 * 1024  # some 500 lines: a Raspberry Pi reads them in a few seconds

ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]{0,16}[A-Za-z]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\))")


class Blame(StrEnum):
    """Whose health a failure counts against."""

    NOBODY = "nobody"
    SLAVE = "slave"
    PACKAGE = "package"


class Remedy(StrEnum):
    """What has to be different before another attempt can end differently."""

    NONE = "nothing will help"
    ELSEWHERE = "another slave"
    LATER = "time"
    LARGER = "a larger slave"
    NETWORK = "network while building"
    IMAGE = "another slave image"
    DEPENDENCY = "the missing requirement"
    OLDER_TOOLS = "build tools of the release's era"
    OPERATOR = "an operator's decision"


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows from a failure of one class.

    final: this version is not tried again on this target of its own accord once its attempts
    are used up, so that the next target in rank may wait. hold: an operator decides.
    attempts: allowed in all. base, cap: of the delay before the next one, which triples each
    time.
    """

    remedy: Remedy
    blame: Blame
    final: bool = False
    hold: bool = False
    attempts: int = 1
    base: timedelta = timedelta(0)
    cap: timedelta = timedelta(hours=12)


def _fault_of_the_slave(base: timedelta) -> Consequence:
    return Consequence(Remedy.ELSEWHERE, Blame.SLAVE, hold=True, attempts=6, base=base)


def _passing_trouble() -> Consequence:
    return Consequence(Remedy.LATER, Blame.NOBODY, hold=True, attempts=8, base=timedelta(minutes=2))


def _too_large() -> Consequence:
    return Consequence(
        Remedy.LARGER, Blame.PACKAGE, final=True, attempts=2, base=timedelta(minutes=1)
    )


def _final(remedy: Remedy = Remedy.NONE) -> Consequence:
    return Consequence(remedy, Blame.PACKAGE, final=True)


def _held() -> Consequence:
    return Consequence(Remedy.OPERATOR, Blame.PACKAGE, hold=True)


CONSEQUENCES: dict[FailureClass, Consequence] = {
    FailureClass.DISK_FULL: _fault_of_the_slave(base=timedelta(seconds=30)),
    FailureClass.SANDBOX: _fault_of_the_slave(base=timedelta(seconds=30)),
    FailureClass.SLAVE_LOST: _fault_of_the_slave(base=timedelta(seconds=2)),
    FailureClass.INDEX_UNAVAILABLE: _passing_trouble(),
    FailureClass.FETCH_FAILED: _passing_trouble(),
    FailureClass.OUT_OF_MEMORY: _too_large(),
    FailureClass.TIMEOUT: _too_large(),
    FailureClass.SILENT: _too_large(),
    FailureClass.TOO_MUCH_OUTPUT: _too_large(),
    FailureClass.NEEDS_NETWORK: _final(Remedy.NETWORK),
    FailureClass.MISSING_TOOL: _final(Remedy.IMAGE),
    FailureClass.DEPENDENCY_UNAVAILABLE: Consequence(
        Remedy.DEPENDENCY,
        Blame.PACKAGE,
        hold=True,
        attempts=6,
        base=timedelta(hours=6),
        cap=timedelta(days=14),
    ),
    FailureClass.LEGACY_TOOLS: Consequence(
        Remedy.OLDER_TOOLS, Blame.PACKAGE, final=True, attempts=2, base=timedelta(minutes=1)
    ),
    FailureClass.UNSUPPORTED: _final(),
    FailureClass.SOURCE_ERROR: _final(),
    FailureClass.BAD_SDIST: _final(),
    FailureClass.BAD_WHEEL: _held(),
    FailureClass.DEGRADED_WHEEL: _held(),
}


def next_try(kind: FailureClass, attempts: int, jitter: float) -> timedelta | None:
    """How long to wait before another attempt, or None if there is none to wait for.

    attempts: made so far, the one that just failed with *kind* included. jitter: from 0 to 1;
    it lengthens the delay by up to a half, so that what failed together does not return together.
    """
    consequence = CONSEQUENCES[kind]
    if attempts >= consequence.attempts:
        return None
    delay: timedelta = min(consequence.base * int(3 ** max(0, attempts - 1)), consequence.cap)
    return delay * (1 + jitter / 2)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """*text* as one printable line of at most *longest* characters, without terminal escapes."""
    plain = ESCAPES.sub("", text[: longest * 20])
    printable = "".join(c if c.isprintable() else " " for c in plain)
    line = " ".join(printable.split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def classify(log_tail: str, *, network: bool = False) -> Failure:
    """The class, cause and fix of a failed build whose log ends with *log_tail*.

    network: whether the build had network, so that its lack cannot be the reason.
    Clues are tried from the most to the least telling; the last matching line speaks, because
    builds try alternatives and give up at the end.
    """
    lines = _tidy(log_tail)
    for clue in CLUES:
        if network and clue.kind is FailureClass.NEEDS_NETWORK:
            continue
        for line in reversed(lines):
            if found := clue.pattern.search(line):
                cause, fix = clue.explain(found)
                lacks = clue.kind is FailureClass.DEPENDENCY_UNAVAILABLE
                needs = missing_package(line) if lacks else ""
                return Failure(clue.kind, one_line(cause), one_line(fix), needs)
    return Failure(FailureClass.SOURCE_ERROR, _last_words(lines))


def _tidy(log_tail: str) -> list[str]:
    """The lines of a log's end, without escapes, each bounded, blank ones left out."""
    plain = ESCAPES.sub("", log_tail[-LONGEST_TAIL:])
    return [line[:1000] for line in plain.splitlines() if line.strip()]


EXCEPTION = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Exit|Failure|Missing)\b")
SPEAKING = re.compile(r"(?i)\b(?:error|fatal|failed|cannot|could not|not found)\b")


# setuptools and subprocess repeat that a command failed; the command's own words say why.
SUMMARY = re.compile(
    r"CalledProcessError|command '.*' (?:failed|returned)|exit (?:status|code) \d+$"
)


def _last_words(lines: list[str]) -> str:
    """The line most likely to tell a person what went wrong."""
    for pattern in (EXCEPTION, SPEAKING):
        for line in reversed(lines):
            if pattern.search(line.strip()) and not SUMMARY.search(line):
                return one_line(line)
    return (one_line(lines[-1]) if lines else "") or "the build failed without a word"
