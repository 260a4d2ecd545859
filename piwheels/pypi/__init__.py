"""The only client of PyPI."""

from piwheels.pypi.client import NoSuchProject, PyPI

__all__ = ["NoSuchProject", "PyPI"]
