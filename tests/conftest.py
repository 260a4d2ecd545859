"""Fixtures for every part, what is run first, and how long Hypothesis searches."""

import os

import pytest
from hypothesis import settings

from tests.postgres_fixture import database, farm_database, farm_template, postgres

__all__ = ["database", "farm_database", "farm_template", "postgres"]

# No deadlines: the machine does other things too. PIW_TEST_THOROUGH=1 searches for long.
settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=2_000, deadline=None)
settings.load_profile("thorough" if os.environ.get("PIW_TEST_THOROUGH") else "quick")

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        starts = (item.nodeid.startswith(start) for start in LONGEST_FIRST)
        return next((number for number, begins in enumerate(starts) if begins), len(LONGEST_FIRST))

    items.sort(key=place)
