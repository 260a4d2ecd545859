"""Makes source distributions of the folders in tests/packages."""

import gzip
import tarfile
from email.parser import Parser
from io import BytesIO
from pathlib import Path

PACKAGES = Path(__file__).parent / "packages"
RELEASED = 1_600_000_000  # seconds since the epoch; of every file in them


def make_sdist(folder: Path, destination: Path, version: str | None = None) -> Path:
    """Write the sdist of *folder* into the directory *destination*; return its path.

    The same folder always gives the same bytes. version: instead of the one in PKG-INFO,
    for backends that read it there.
    """
    info = Parser().parsestr((folder / "PKG-INFO").read_text(encoding="utf-8"))
    if version is not None:
        info.replace_header("Version", version)
    stem = f"{info['Name'].replace('-', '_')}-{info['Version']}"
    sdist = destination / f"{stem}.tar.gz"
    with (
        sdist.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=RELEASED) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if "__pycache__" in path.parts:
                continue
            content = info.as_bytes() if path.name == "PKG-INFO" else path.read_bytes()
            name = f"{stem}/{path.relative_to(folder)}"
            archive.addfile(_entry(name, len(content)), BytesIO(content))
    return sdist


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mtime = RELEASED
    entry.mode = 0o644
    return entry
