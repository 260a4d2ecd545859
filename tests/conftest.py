"""Fixtures for every part, and how long Hypothesis searches."""

import os

from hypothesis import settings

from tests.postgres_fixture import database, postgres

__all__ = ["database", "postgres"]

# No deadlines: the machine does other things too. PIW_TEST_THOROUGH=1 searches for long.
settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=2_000, deadline=None)
settings.load_profile("thorough" if os.environ.get("PIW_TEST_THOROUGH") else "quick")
