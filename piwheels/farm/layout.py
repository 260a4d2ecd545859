"""Where a farm on one machine keeps things, and how its programs are told.

piwheels.conf     for every piw- command: piw-add -c DATA/piwheels.conf numpy
postgresql/       the database
www/              the web tree
slaves/<label>/   each slave's own directory
logs/             what the programs say
"""

import configparser
import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from piwheels.model.errors import PiwheelsError


class BadDataDirectory(PiwheelsError):
    """The farm cannot keep its data where it was told to. The operator's to mend."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders below *data*; sockets lie in *runtime*, for their paths must be short."""

    data: Path
    runtime: Path

    @property
    def configuration(self) -> Path:
        """The file for piw- commands."""
        return self.data / "piwheels.conf"

    @property
    def database(self) -> Path:
        """Of the embedded PostgreSQL."""
        return self.data / "postgresql"

    @property
    def web_tree(self) -> Path:
        """What the web server serves."""
        return self.data / "www"

    @property
    def logs(self) -> Path:
        """Of the programs, not of builds."""
        return self.data / "logs"

    def slave(self, label: str) -> Path:
        """A slave's own directory."""
        return self.data / "slaves" / label

    def socket(self, name: str) -> str:
        """The address of a socket that only this farm's programs reach."""
        return f"ipc://{self.runtime / self._prefix}-{name}"

    @property
    def _prefix(self) -> str:
        """Two farms of one user share the runtime directory."""
        return "farm-" + hashlib.sha256(os.fsencode(self.data)).hexdigest()[:8]

    def make(self) -> None:
        """Make the folders. Raise BadDataDirectory."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            for folder in (self.web_tree, self.logs, self.data / "slaves"):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise BadDataDirectory(
                f"cannot keep the farm in {self.data}: {error.strerror}; choose another --data"
            ) from error

    def write_configuration(self, sections: Mapping[str, Mapping[str, str]]) -> None:
        """Write the file for piw- commands; only this user may read it."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_dict(sections)
        text = io.StringIO()
        text.write("; Written by piw-farm at each start: changes here do not last.\n\n")
        parser.write(text)
        unfinished = self.configuration.with_suffix(".new")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text.getvalue())
        unfinished.replace(self.configuration)
