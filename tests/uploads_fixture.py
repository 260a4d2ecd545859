"""A database with leases that expect files."""

import pytest

from tests.leased_farm import LeasedFarm


@pytest.fixture
def farm(database):
    farm = LeasedFarm(database)
    yield farm
    farm.close()
