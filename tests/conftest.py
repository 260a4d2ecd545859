"""Fixtures for every part, where tests write, what is run first, how long Hypothesis searches."""

import os
import tempfile
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from tests.postgres_fixture import database, farm_database, farm_template, postgres

__all__ = ["database", "farm_database", "farm_template", "postgres"]

# No deadlines: the machine does other things too. PIW_TEST_THOROUGH=1 searches for long.
settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=2_000, deadline=None)
settings.load_profile("thorough" if os.environ.get("PIW_TEST_THOROUGH") else "quick")

MEMORY = Path("/dev/shm")
ROOM = 4 * 1024**3  # bytes; most tests remove what they wrote

# Files whose tests take long begin first, lest one worker be at them when the others are done.
LONGEST_FIRST = (
    "tests/builds/",
    "tests/farm/",
    "tests/unit/test_bench.py",
    "tests/docs/test_tutorial.py",
    "tests/wire/",
    "tests/index/",
    "tests/database/",
)


def _write_to_memory() -> None:
    """Let temporary files be made in memory: databases are made and removed by the hundred."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    room = os.statvfs(MEMORY)
    has_room = room.f_bavail * room.f_frsize > ROOM < psutil.virtual_memory().available // 2
    if has_room and not room.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # pytest has looked already


_write_to_memory()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        starts = (item.nodeid.startswith(start) for start in LONGEST_FIRST)
        return next((number for number, begins in enumerate(starts) if begins), len(LONGEST_FIRST))

    items.sort(key=place)
