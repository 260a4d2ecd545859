"""Writes what docs/ can take from the code: scripts/docs, and the tests that nothing is stale."""
