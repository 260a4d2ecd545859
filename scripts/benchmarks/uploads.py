"""Uploads at full speed: real files through the real receiver, by real uploaders.

A lease is entered for each uploader, which is to deliver more wheels than it ever will. All
are the same bytes under different build tags, so that making them takes no time. Run as a
program it uploads until its standard input ends, and prints how many bytes arrived.
"""

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from piwheels.slave.uploader import send_files
from scripts.benchmarks.machine import CHECKOUT
from scripts.benchmarks.result import BenchmarkFailed
from scripts.benchmarks.server import Database

UPLOADERS = 4
WHEEL_BYTES = 4 * 1024**2
MOST_WHEELS = 2_000  # of each uploader
PACKAGE, VERSION = "uploaded", "1.0"
END_SECONDS = 60.0

LEASES = """
    WITH package AS (
        INSERT INTO packages (name, display_name) VALUES (%(package)s, %(package)s)
        RETURNING package_id
    ), version AS (
        INSERT INTO versions (package_id, version) SELECT package_id, %(version)s FROM package
        RETURNING version_id
    ), slave AS (
        INSERT INTO slaves (label, target_id, cores, memory, disk, sandbox)
        SELECT format('uploader-%%s', target_id), target_id, 4, 1, 1, 'L2'
        FROM targets ORDER BY target_id LIMIT %(uploaders)s
        RETURNING slave_id, target_id
    )
    INSERT INTO leases (token, version_id, target_id, slave_id, granted, expires, phase)
    SELECT uuid_send(gen_random_uuid()), version_id, target_id, slave_id, now(),
        now() + interval '1 day', 'delivering'
    FROM slave CROSS JOIN version
    RETURNING build_id, token
"""
EXPECT = """
    INSERT INTO uploads (build_id, name, size, sha256)
    SELECT %(build_id)s, format(%(pattern)s, number), %(size)s, %(sha256)s
    FROM generate_series(%(first)s, %(last)s) AS number
"""


def expect(database: Database, folder: Path) -> None:
    """Enter the leases, and write the one wheel and what is to be done with it."""
    wheel = folder / "wheel"
    wheel.write_bytes(_wheel(folder))
    size, sha256 = wheel.stat().st_size, hashlib.sha256(wheel.read_bytes()).hexdigest()
    pattern = f"{PACKAGE}-{VERSION}-%s-py3-none-any.whl"
    names = {"package": PACKAGE, "version": VERSION, "uploaders": UPLOADERS}
    with database.as_owner() as connection, connection.cursor() as cursor:
        cursor.execute(LEASES, names)
        leases = [(build_id, bytes(token).hex()) for build_id, token in cursor.fetchall()]
        for place, (build_id, _) in enumerate(leases):
            first = 1 + place * MOST_WHEELS
            numbers = {"first": first, "last": first + MOST_WHEELS - 1}
            expected = {"build_id": build_id, "pattern": pattern, "size": size, "sha256": sha256}
            cursor.execute(EXPECT, expected | numbers)
    (folder / "leases.json").write_text(json.dumps([token for _, token in leases]))


def _wheel(folder: Path) -> bytes:
    info = f"{PACKAGE}-{VERSION}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n"
    members = {
        f"{PACKAGE}/data.bin": secrets.token_bytes(WHEEL_BYTES),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{name},{_digest(data)},{len(data)}\n" for name, data in members.items()]
    members[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    path = folder / "unnamed"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    content = path.read_bytes()
    path.unlink()
    return content


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return "sha256=" + digest.rstrip(b"=").decode()


@contextmanager
def uploading(address: str, folder: Path) -> Iterator[dict[str, int]]:
    """Upload to the receiver at *address*, in a process of its own.

    Yields what holds the bytes that arrived, once it has ended.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, address, folder],
        cwd=CHECKOUT,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    arrived: dict[str, int] = {}
    try:
        yield arrived
        said, _ = process.communicate(timeout=END_SECONDS)
        if process.returncode or not int(said):
            raise BenchmarkFailed("no upload arrived: see above")
        arrived["bytes"] = int(said)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Be the process."""
    address, folder = sys.argv[1], Path(sys.argv[2])
    tokens = json.loads((folder / "leases.json").read_text())
    stop = threading.Event()
    counts = [0] * len(tokens)

    def upload(place: int, token: bytes) -> None:
        wheel = folder / "wheel"
        for number in range(1 + place * MOST_WHEELS, 1 + (place + 1) * MOST_WHEELS):
            name = f"{PACKAGE}-{VERSION}-{number}-py3-none-any.whl"
            verdicts = send_files(address, token, {name: wheel}, stop)
            if stop.is_set():
                return
            if verdicts[name] is not None:
                raise BenchmarkFailed(f"{name} was refused: {verdicts[name]}")
            counts[place] += wheel.stat().st_size

    threads = [
        threading.Thread(target=upload, args=(place, bytes.fromhex(token)))
        for place, token in enumerate(tokens)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(sum(counts))


if __name__ == "__main__":
    main()
