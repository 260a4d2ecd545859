"""Builds on a disk that is full, and what of their results reaches the master all the same."""

LEASE = b"l" * 16
FILL = "import os; f = open(os.path.join({0!r}, 'filler'), 'wb', 0); [f.write(b'x' * 4096) for _ in iter(int, 1)]"
