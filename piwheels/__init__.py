"""A distributed build farm that turns source releases on PyPI into wheels."""

from importlib.metadata import version

__version__ = version("piwheels")
