"""The only client of PyPI."""
