"""How a file travels: the receiver asks for chunks, the sender sends what is asked for.

The receiver's asking is the credit: at most WINDOW chunks are on their way. A file can be
resumed at any offset, since the receiver says which bytes it wants.
"""

from dataclasses import dataclass
from typing import Annotated

from voluptuous import Length, Range

from piwheels.protocol.codec import Vocabulary
from piwheels.protocol.fields import Bytes, FileName, Line, Sha256, Token

CHUNK = 256 * 1024  # bytes
WINDOW = 8  # chunks asked for and not yet here


@dataclass(frozen=True, slots=True)
class Put:
    """Sender: here is a file of *lease*; ask me for it. Repeated until there is an answer."""

    lease: Token
    name: FileName
    size: Bytes
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Fetch:
    """Receiver: send me *length* bytes of it from *offset*."""

    lease: Token
    name: FileName
    offset: Bytes
    length: Annotated[int, Range(min=1, max=CHUNK)]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Sender: the bytes you asked for."""

    lease: Token
    name: FileName
    offset: Bytes
    data: Annotated[bytes, Length(min=1, max=CHUNK)]


@dataclass(frozen=True, slots=True)
class Stored:
    """Receiver: the file is complete, verified and safe."""

    lease: Token
    name: FileName


@dataclass(frozen=True, slots=True)
class Refused:
    """Receiver: I will not take this file, now or later, for *reason*."""

    lease: Token
    name: FileName
    reason: Line


FROM_SENDER = Vocabulary(Put, Chunk)
FROM_RECEIVER = Vocabulary(Fetch, Stored, Refused)
