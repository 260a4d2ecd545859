"""The kinds of field that messages are made of, each with its limits."""

from typing import Annotated

from voluptuous import Length, Match, Range

Token = Annotated[bytes, Length(min=16, max=16)]  # unguessable: secrets.token_bytes(16)
Sha256 = Annotated[str, Match(r"^[0-9a-f]{64}\Z")]
FileName = Annotated[str, Match(r"^[A-Za-z0-9_][A-Za-z0-9_.+!-]{0,254}\Z")]  # no path, no dot file
PackageName = Annotated[str, Match(r"^[a-z0-9]([a-z0-9-]{0,253}[a-z0-9])?\Z")]
VersionText = Annotated[str, Length(min=1, max=255)]
Url = Annotated[str, Match(r"^https?://\S{1,4000}\Z")]
Label = Annotated[str, Length(min=1, max=80), Match(r"^[^\x00-\x1f\x7f]+\Z")]
Line = Annotated[str, Length(max=1_000)]
Paragraph = Annotated[str, Length(max=10_000)]
Count = Annotated[int, Range(min=0)]
Bytes = Annotated[int, Range(min=0)]
Seconds = Annotated[float, Range(min=0, max=10 * 365 * 86_400)]
