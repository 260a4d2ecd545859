"""Fixtures for every part."""

from tests.postgres_fixture import database, postgres

__all__ = ["database", "postgres"]
