"""A PyPI of any size that nobody wrote down: each page is computed when it is asked for."""

import re
from collections.abc import Iterator
from datetime import timedelta
from hashlib import blake2b

from tests.history import API_VERSION, EPOCH, Page, Row

SERIALS = 100  # of each project in turn; more than its rows, so that there are gaps
MOST_VERSIONS = 21  # from 1 to so many: 11 on average, as on PyPI
NAME = re.compile(r"generated-([0-9]{7})")
WHEELS = (  # beside the sdist, by kind of project
    (),
    ("py3-none-any",),
    ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-win_amd64"),
    (),
)


class Generated:
    """The index of *count* projects that *seed* stands for.

    released: indices of the projects that released one more version since, in that order.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count = count
        self.seed = str(seed).encode()
        self.released: list[int] = []
        self.later: dict[int, list[int]] = {}  # the last serials before those, by project

    def release(self) -> None:
        """Let some project release one more version."""
        digest = blake2b(f"next {len(self.released)}".encode(), key=self.seed).digest()
        index = int.from_bytes(digest[:8], "big") % self.count
        self.later.setdefault(index, []).append(self.last_serial())
        self.released.append(index)

    def last_serial(self) -> int:
        """Of the last row."""
        return self.count * SERIALS + 2 * len(self.released)

    def rows(self, since: int) -> Iterator[Row]:
        """Yield the journal's rows after *since*."""
        for index in range(since // SERIALS, self.count):
            for row in self._rows(index):
                if row[4] > since:
                    yield row
        first = max(since - self.count * SERIALS, 0)
        for number in range(first // 2, len(self.released)):
            for row in self._rows_of_release(number):
                if row[4] > since:
                    yield row

    def serials(self) -> Iterator[tuple[str, int]]:
        """Yield name and serial of each project."""
        for index in range(self.count):
            yield _spelling(index), self._serial(index)

    def page(self, package: str, files_url: str, serial: int | None = None) -> Page | None:
        """The page of *package* (normalized), or None. serial: no old state is known."""
        found = NAME.fullmatch(package)
        index = int(found[1]) if found else self.count
        if index >= self.count:
            return None
        kind, count = self._kind(index)
        later = self.later.get(index, ())
        versions = [f"1.{number}" for number in range(count + len(later))]
        uploads = [index * SERIALS + 3 * number for number in range(count)] + [*later]
        return {
            "meta": {"api-version": API_VERSION, "_last-serial": self._serial(index)},
            "name": package,
            "project-status": {"status": "active"},
            "alternate-locations": [],
            "versions": versions,
            "files": [
                self._file(filename, files_url, uploaded)
                for version, uploaded in zip(versions, uploads, strict=True)
                for filename in _filenames(index, kind, version)
            ],
        }

    def content(self, filename: str) -> bytes | None:
        """None: there are no files behind the pages."""

    def _kind(self, index: int) -> tuple[int, int]:
        """Which wheels a project has, and how many versions."""
        digest = blake2b(index.to_bytes(4, "big"), digest_size=2, key=self.seed).digest()
        return digest[0] % len(WHEELS), 1 + digest[1] % MOST_VERSIONS

    def _serial(self, index: int) -> int:
        if index in self.later:
            return self.later[index][-1] + 2
        kind, count = self._kind(index)
        return index * SERIALS + 1 + count * (2 + len(WHEELS[kind]))

    def _rows(self, index: int) -> Iterator[Row]:
        kind, count = self._kind(index)
        name = _spelling(index)
        serial = index * SERIALS + 1
        yield _row(name, None, "create", serial)
        for number in range(count):
            version = f"1.{number}"
            serial += 1
            yield _row(name, version, "new release", serial)
            for filename in _filenames(index, kind, version):
                serial += 1
                yield _row(name, version, f"add file {filename}", serial)

    def _rows_of_release(self, number: int) -> Iterator[Row]:
        index = self.released[number]
        serial = self.count * SERIALS + 2 * number
        earlier = self.later[index].index(serial)
        version = f"1.{self._kind(index)[1] + earlier}"
        yield _row(_spelling(index), version, "new release", serial + 1)
        yield _row(_spelling(index), version, "add source file", serial + 2)

    def _file(self, filename: str, files_url: str, uploaded: int) -> dict[str, object]:
        return {
            "filename": filename,
            "url": f"{files_url}{filename}",
            "hashes": {"sha256": blake2b(filename.encode(), digest_size=32).hexdigest()},
            "size": len(filename) * 1000,
            "requires-python": ">=3.8",
            "upload-time": (EPOCH + timedelta(seconds=uploaded)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "yanked": False,
        }


def _spelling(index: int) -> str:
    return f"Generated_{index:07}" if index % 10 == 0 else f"generated-{index:07}"


def _filenames(index: int, kind: int, version: str) -> Iterator[str]:
    stem = f"generated_{index:07}-{version}"
    yield f"{stem}.tar.gz"
    for tag in WHEELS[kind]:
        yield f"{stem}-{tag}.whl"


def _row(name: str, version: str | None, action: str, serial: int) -> Row:
    return name, version, int(EPOCH.timestamp()) + serial, action, serial
