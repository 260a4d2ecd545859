"""Runs a page as a person would: two terminals, Ctrl+C, and eyes that compare.

Marks in the page, invisible to readers, tell what a block is:

<!-- run -->             a shell block, run to its end in a second terminal
<!-- terminal -->        a shell block, run in a first terminal and left running
<!-- shows -->           what the block before showed, or will soon: these lines in any order
<!-- terminal shows -->  the same of the first terminal
<!-- press Ctrl+C -->    in the first terminal; its command must then end

What differs from one machine to the next is compared by its kind: times, Pythons, platforms.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 180.0  # seconds; on a machine that does other things too
STEP = re.compile(
    r"^<!-- (?P<kind>run|terminal|shows|terminal shows|press Ctrl\+C) -->\n"
    r"(?:```\w*\n(?P<text>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
KINDS = (
    (r"\d+(\.\d+)? s\b", "N s"),
    (r"\bcp3\d+\b", "cp3N"),
    (r"linux_\w+?\b", "linux_N"),
    (r"py2\.py3", "py3"),
    (r"\x1b\[[0-9;?]*[A-Za-z]", ""),
)


@dataclass(frozen=True)
class Step:
    """One mark of a page and the block below it."""

    kind: str
    text: str


def steps(page: Path) -> Iterator[Step]:
    """The marks of a page, in order."""
    for found in STEP.finditer(page.read_text(encoding="utf-8")):
        yield Step(found["kind"], found["text"] or "")


def by_kind(line: str) -> str:
    """A line without what differs from machine to machine."""
    for pattern, kind in KINDS:
        line = re.sub(pattern, kind, line)
    return " ".join(line.split())


@dataclass
class Reader:
    """Somebody who does what a page says.

    here: what a word of the page is on this machine. environment: of both terminals.
    """

    folder: Path
    here: dict[str, str]
    environment: Mapping[str, str]
    terminal: subprocess.Popen[str] | None = None
    shown: str = ""
    starts: int = 0
    done: list[str] = field(default_factory=list)

    def do(self, step: Step) -> None:
        """Do one step, and compare if it shows something."""
        match step.kind:
            case "run":
                self.shown = self._run(step.text)
            case "terminal":
                self._open_terminal(step.text)
            case "shows" if self.done[-1] == "terminal":
                self._wait_for(step.text)
            case "shows":
                assert self._missing(step.text, self.shown) == []
            case "terminal shows":
                self._wait_for(step.text)
            case "press Ctrl+C":
                self._press()
        self.done.append(step.kind)

    def leave(self) -> None:
        """Leave nothing running."""
        if self.terminal is not None:
            self._press()

    @property
    def _screen(self) -> Path:
        return self.folder / f"terminal-{self.starts}.txt"

    def _run(self, text: str) -> str:
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._translated(text)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=PATIENCE,
            check=False,
        )
        assert answer.returncode == 0, f"{text}\n{answer.stdout}"
        return answer.stdout

    def _open_terminal(self, text: str) -> None:
        assert self.terminal is None, "the first terminal is busy"
        self.starts += 1
        with self._screen.open("w") as screen:
            self.terminal = subprocess.Popen(
                ["bash", "-c", f"exec {self._translated(text)}"],
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                text=True,
                env=self.environment,
                cwd=self.folder,
            )

    def _press(self) -> None:
        assert self.terminal is not None, "nothing runs in the first terminal"
        self.terminal.send_signal(signal.SIGINT)
        try:
            self.terminal.wait(PATIENCE)
        finally:
            self.terminal.kill()
            self.terminal = None

    def _wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while missing := self._missing(text, self._on_screen()):
            situation = f"{missing} is not in:\n{self._on_screen()}"
            assert self.terminal is not None, situation
            assert self.terminal.poll() is None, situation
            assert time.monotonic() < deadline, situation
            time.sleep(0.2)

    def _on_screen(self) -> str:
        """What the first terminal shows; the address of the farm becomes known there."""
        text = self._screen.read_text(encoding="utf-8")
        if found := re.search(r"The farm is up: (\S+)", text):
            self.here["http://localhost:8080/"] = found[1]
        return text

    def _translated(self, text: str) -> str:
        words = sorted(self.here, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, words)), lambda word: self.here[word[0]], text)

    def _missing(self, text: str, shown: str) -> list[str]:
        """The lines of *text* that are not in *shown*, apart from what differs by kind."""
        there = by_kind(shown.replace("\n", " ⏎ "))
        wanted = [by_kind(self._translated(line)) for line in text.splitlines() if line.strip()]
        return [line for line in wanted if line not in there]


def clean_environment(folder: Path, pypi: str) -> dict[str, str]:
    """Of a person without settings of their own, whose PyPI is *pypi*."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PIW_")) and name != "VIRTUAL_ENV"
    }
    return kept | {
        "COLUMNS": "200",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIW_PORT": "0",
        "PIW_PYPI": pypi,
        "XDG_DATA_HOME": str(folder / "share"),
    }
