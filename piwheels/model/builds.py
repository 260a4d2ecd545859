"""One attempt to build a version on a target: what is asked, what comes back."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """How a build ended."""

    SUCCESS = "success"
    FAILURE = "failure"


class FailureClass(StrEnum):
    """Why a build failed, named for what was wrong. What follows: piwheels.rules.failures."""

    DISK_FULL = "slave disk full"
    SANDBOX = "sandbox failure"
    SLAVE_LOST = "slave lost"
    INDEX_UNAVAILABLE = "index unavailable"
    FETCH_FAILED = "fetch failed"
    OUT_OF_MEMORY = "out of memory"
    TIMEOUT = "timeout"
    SILENT = "silent"
    TOO_MUCH_OUTPUT = "too much output"
    NEEDS_NETWORK = "needs network"
    MISSING_TOOL = "missing header or tool"
    DEPENDENCY_UNAVAILABLE = "build dependency unavailable"
    LEGACY_TOOLS = "legacy build tools"
    UNSUPPORTED = "unsupported Python or platform"
    SOURCE_ERROR = "compile or source error"
    BAD_SDIST = "bad sdist"
    BAD_WHEEL = "bad wheel"
    DEGRADED_WHEEL = "degraded wheel"


class Phase(StrEnum):
    """What a slave is doing for its lease."""

    FETCHING = "fetching"
    PREPARING = "preparing"
    BUILDING = "building"
    INSPECTING = "inspecting"
    DELIVERING = "delivering"


@dataclass(frozen=True, slots=True)
class Sdist:
    """A source distribution to fetch. size: bytes, None where the index does not say."""

    filename: str
    url: str
    sha256: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one build may use. Zero means no limit of that kind.

    memory: bytes of address space of one process (L0) or of all together (cgroups).
    seconds: wall time of the whole build. silence: seconds without a byte of output.
    output: bytes of log. disk: bytes written under the build's own directories.
    """

    seconds: float = 10_800.0
    silence: float = 3_600.0
    memory: int = 0
    processes: int = 0
    output: int = 64 * 1024**2
    disk: int = 0


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """A build to do. build_id: of this attempt; the log is published under it.

    network: whether the build itself may reach the network.
    native: whether PyPI's own wheels show that this version has native code, so that a
    wheel without any is a degraded one.
    index_urls: simple indexes that build requirements may come from beside the default one.
    tools_before: build requirements are those of that moment; None: the newest.
    """

    build_id: int
    package: str
    version: str
    sdist: Sdist
    limits: Limits = Limits()
    network: bool = False
    native: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    index_urls: tuple[str, ...] = ()
    tools_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a build failed. cause: one line. fix: one line, empty where it is not known.

    needs: the normalized name of the package whose next release may help, '' if none would.
    """

    kind: FailureClass
    cause: str
    fix: str = ""
    needs: str = ""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build came to. failure is None exactly if it succeeded.

    wheels and log lie in the build's spool directory; log is None if it ended before there
    was one. seconds: wall time of the whole build; phases: of each phase. peak_memory:
    bytes, 0 where unknown. cpu_seconds: of all its processes. sandbox: the level it ran at,
    e.g. L2. environment: the build requirements as installed, name to version.
    """

    log: Path | None = None
    failure: Failure | None = None
    wheels: tuple[Path, ...] = ()
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    cpu_seconds: float = 0.0
    sandbox: str = ""
    network_used: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """Success, or failure."""
        return Outcome.SUCCESS if self.failure is None else Outcome.FAILURE
