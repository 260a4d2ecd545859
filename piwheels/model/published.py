"""What the public pages show of a package."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A wheel in the web tree.

    size: bytes. sha256 and metadata_sha256: hex digests of the file and of its METADATA,
    which lies beside it as <filename>.metadata. published: when this farm published it.
    yanked: None, or the reason, which may be empty (PEP 592).
    """

    filename: str
    version: str
    size: int
    sha256: str
    metadata_sha256: str
    requires_python: str
    published: datetime
    yanked: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How one version stands on one target.

    state: done, building, waiting, failed, held, skipped, unsupported or none.
    filename: of the wheel that covers it. log: public path of its newest log.
    cause, fix: one line each, where it failed.
    """

    target: str
    state: str
    filename: str = ""
    log: str = ""
    cause: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A version as its package's page shows it. yanked: None, or the reason."""

    version: str
    released: datetime | None
    yanked: str | None
    skip: str
    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """All that the public pages of one package show. files and releases: newest first."""

    package: str
    display_name: str
    summary: str
    files: tuple[PublishedFile, ...]
    releases: tuple[Release, ...]


def log_path(build_id: int) -> str:
    """Where the log of a build lies in the web tree: logs/0000/0001/2345.txt.gz."""
    digits = f"{build_id:012d}"
    return f"logs/{digits[:-8]}/{digits[-8:-4]}/{digits[-4:]}.txt.gz"
