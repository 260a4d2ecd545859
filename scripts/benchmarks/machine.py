"""What a figure depends on: the machine and the state of the sources."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

CHECKOUT = Path(__file__).resolve().parents[2]

# On ARM the kernel names the board instead of the processor.
NAMES = ("model name", "Model", "Hardware", "cpu model")


def facts() -> dict[str, Any]:
    """Processor, cores, memory (bytes), load (of the last minute), system, Python, commit."""
    return {
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")),
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit(),
    }


def cpu_model(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo, else the architecture's."""
    lines = [line.partition(":") for line in cpuinfo.splitlines()]
    entries = {key.strip(): text.strip() for key, _, text in reversed(lines)}
    found = (entries[name] for name in NAMES if entries.get(name))
    return next(found, platform.machine())


def commit() -> str:
    """The commit that is measured, with a + if files differ from it; '' without git."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head + ("+" if head and _git("status", "--porcelain") else "")


def _git(*words: str) -> str:
    try:
        answer = subprocess.run(
            ["git", "-C", CHECKOUT, *words], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
