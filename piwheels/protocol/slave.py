"""What slaves and the dispatcher say to each other.

The slave speaks first, always; each request has one reply. Any message may be lost or
repeated: repeating one is harmless. The tables of who may say what when are
piwheels.slave.session and piwheels.rules.slave_session.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from voluptuous import Length

from piwheels.model.builds import FailureClass, Outcome, Phase
from piwheels.protocol.codec import Vocabulary
from piwheels.protocol.fields import (
    Bytes,
    Count,
    FileName,
    Label,
    Line,
    PackageName,
    Paragraph,
    Seconds,
    Sha256,
    Token,
    Url,
    VersionText,
)

PROTOCOL = 1  # raised when one end could misunderstand the other
LOG_NAME = "build-log.txt"  # the one file of a build that is not a wheel
MOST_WHEELS = 16

Tags = Annotated[tuple[Annotated[str, Length(min=5, max=200)], ...], Length(min=1, max=10_000)]
Environment = Annotated[dict[Line, Line], Length(max=1_000)]


@dataclass(frozen=True, slots=True)
class OfferedTarget:
    """A slave's target: see model.targets.TargetOffer."""

    name: Label
    label: Label
    python: VersionText
    tags: Tags


@dataclass(frozen=True, slots=True)
class Resources:
    """What a slave has. memory and disk: bytes in all.

    image: a digest of what is installed there; another one is another chance for builds that
    lacked something.
    """

    cores: Count = 0
    memory: Bytes = 0
    disk: Bytes = 0
    sandbox: Label = "L0"
    image: Line = ""


@dataclass(frozen=True, slots=True)
class Health:
    """How a slave is. Bytes free, load over one minute, degrees Celsius; None: it cannot say."""

    memory_free: Bytes | None = None
    disk_free: Bytes | None = None
    load: Seconds = 0.0
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class DeliveredFile:
    """A file that a slave has ready to send."""

    name: FileName
    size: Bytes
    sha256: Sha256


# The slave says:


@dataclass(frozen=True, slots=True)
class Hello:
    """Who I am and what I build for. *lease*: of a build that I am still at or have done.

    run: drawn by each process that speaks as this slave, so that two of one name are told
    apart.
    """

    protocol: Count
    label: Label
    target: OfferedTarget
    resources: Resources
    clock: datetime
    lease: Token | None = None
    run: Token = bytes(16)


@dataclass(frozen=True, slots=True)
class Idle:
    """I could build something."""

    health: Health = field(default_factory=Health)


@dataclass(frozen=True, slots=True)
class Busy:
    """I am at *lease*. log_tail: the newest lines of its log."""

    lease: Token
    phase: Phase
    health: Health = field(default_factory=Health)
    log_tail: Paragraph = ""


@dataclass(frozen=True, slots=True)
class Built:
    """The build of *lease* ended, well or badly.

    seconds: wall time of the build alone; phases: of each part of it. wheels: empty unless
    it succeeded. kind, cause and fix: set unless it succeeded. peak_memory: bytes.
    log: None if it ended before there was one. needs: the package that would have helped.
    """

    lease: Token
    outcome: Outcome
    seconds: Seconds
    log: DeliveredFile | None = None
    wheels: Annotated[tuple[DeliveredFile, ...], Length(max=MOST_WHEELS)] = ()
    kind: FailureClass | None = None
    cause: Line = ""
    fix: Line = ""
    phases: Annotated[dict[Label, Seconds], Length(max=20)] = field(default_factory=dict)
    peak_memory: Bytes = 0
    cpu_seconds: Seconds = 0.0
    sandbox: Line = ""
    network_used: bool = False
    environment: Environment = field(default_factory=dict)
    needs: Annotated[str, Length(max=255)] = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """Every file you asked for is with the receiver."""

    lease: Token


@dataclass(frozen=True, slots=True)
class Bye:
    """I am leaving; a lease I still hold is free again."""


# The dispatcher answers:


@dataclass(frozen=True, slots=True)
class Ack:
    """Welcome. *lease*: of those you named, the one that still stands.

    slave: your number. heartbeat: seconds between two BUSY. silence: seconds without an
    answer after which to ask again. index_urls: simple indexes beside the default one
    that build requirements may come from.
    """

    slave: Count
    heartbeat: Seconds
    silence: Seconds
    lease: Token | None = None
    index_urls: Annotated[tuple[Url, ...], Length(max=10)] = ()


@dataclass(frozen=True, slots=True)
class Die:
    """You cannot work here; *reason* says what to change. Do not come back as you are."""

    reason: Line


@dataclass(frozen=True, slots=True)
class Who:
    """I do not know you, perhaps not any more: say HELLO, and go on with what you do."""


@dataclass(frozen=True, slots=True)
class OrderedSdist:
    """What to build: see model.builds.Sdist."""

    filename: FileName
    url: Url
    sha256: Sha256
    size: Bytes | None


@dataclass(frozen=True, slots=True)
class OrderedLimits:
    """What it may use: see model.builds.Limits."""

    seconds: Seconds
    silence: Seconds
    memory: Bytes
    processes: Count
    output: Bytes
    disk: Bytes


@dataclass(frozen=True, slots=True)
class Build:
    """Build this under *lease*: see model.builds.BuildOrder.

    tools_before: build requirements must be older than that; None: the newest.
    """

    lease: Token
    build_id: Count
    package: PackageName
    version: VersionText
    sdist: OrderedSdist
    limits: OrderedLimits
    network: bool = False
    native: bool = False
    environment: Environment = field(default_factory=dict)
    tools_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """There is nothing for you, for *reason*; ask again in *seconds*."""

    seconds: Seconds
    reason: Line


@dataclass(frozen=True, slots=True)
class Continue:
    """Your lease is extended."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop this build and forget it."""

    reason: Line


@dataclass(frozen=True, slots=True)
class Send:
    """Give the files of these names to the receiver, then say SENT."""

    names: Annotated[tuple[FileName, ...], Length(min=1, max=MOST_WHEELS + 1)]


@dataclass(frozen=True, slots=True)
class Done:
    """The build is on record; forget it."""


FROM_SLAVE = Vocabulary(Hello, Idle, Busy, Built, Sent, Bye)
TO_SLAVE = Vocabulary(Ack, Die, Who, Build, Sleep, Continue, Cancel, Send, Done)
