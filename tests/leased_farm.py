"""A farm's database with leases that expect files, and wheels to deliver."""

import base64
import hashlib
import io
import secrets
import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from piwheels.database.connection import connect

TAGS = ["cp311-cp311-linux_armv7l", "cp311-none-any", "py3-none-any"]
MIGRATION = Path(__file__).parents[1] / "sql" / "migrations" / "0001.first.sql"


@dataclass(frozen=True)
class Lease:
    build_id: int
    token: bytes


class LeasedFarm:
    """The tables the receiver reads and writes, filled as a dispatcher would."""

    def __init__(self, dsn):
        self.dsn = dsn
        self.engine = connect(dsn)
        self.connection = connect_as_owner(dsn)
        self.execute(MIGRATION.read_text(encoding="utf-8"))
        self.tag_set_id = self.value(
            "INSERT INTO tag_sets (tags) VALUES (%s) RETURNING tag_set_id", TAGS
        )
        self.slaves = 0

    def close(self):
        self.connection.close()
        self.engine.dispose()

    def execute(self, statement, *values):
        cursor = self.connection.cursor()
        cursor.execute(statement, values or None)
        return cursor

    def value(self, statement, *values):
        row = self.execute(statement, *values).fetchone()
        return None if row is None else row[0]

    def lease(self, package="tiny", version="1.0"):
        """Grant a lease to a new slave; see expect() for its files."""
        self.slaves += 1
        package_id = self.value(
            "INSERT INTO packages (name, display_name) VALUES (%s, %s)"
            " ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name RETURNING package_id",
            package,
            package,
        )
        version_id = self.value(
            "INSERT INTO versions (package_id, version) VALUES (%s, %s)"
            " ON CONFLICT (package_id, version) DO UPDATE SET version = EXCLUDED.version"
            " RETURNING version_id",
            package_id,
            version,
        )
        target_id = self.value(
            "INSERT INTO targets (name, label, python, rank, active, tag_set_id)"
            " VALUES (%s, '', '3.11.2', 0, true, %s) RETURNING target_id",
            f"target-{self.slaves}",
            self.tag_set_id,
        )
        slave_id = self.value(
            "INSERT INTO slaves (label, target_id, cores, memory, disk, sandbox)"
            " VALUES (%s, %s, 1, 1, 1, 'L0') RETURNING slave_id",
            f"slave-{self.slaves}",
            target_id,
        )
        token = secrets.token_bytes(16)
        build_id = self.value(
            "INSERT INTO leases (token, version_id, target_id, slave_id, granted, expires, phase)"
            " VALUES (%s, %s, %s, %s, now(), now() + interval '1 hour', 'building')"
            " RETURNING build_id",
            token,
            version_id,
            target_id,
            slave_id,
        )
        return Lease(build_id, token)

    def expect(self, lease, path, name=None):
        """Enter that *lease* is to deliver the file at *path*."""
        self.expect_bytes(lease, name or path.name, path.stat().st_size, hash_of(path))

    def expect_bytes(self, lease, name, size, sha256):
        self.execute(
            "INSERT INTO uploads (build_id, name, size, sha256) VALUES (%s, %s, %s, %s)",
            lease.build_id,
            name,
            size,
            sha256,
        )

    def let_in(self, anybody):
        """Whether the database takes new connections, as if it were away."""
        url = self.engine.url
        dsn = url.set(database="postgres").render_as_string(hide_password=False)
        with closing(connect_as_owner(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{url.database}" ALLOW_CONNECTIONS {anybody}')

    def end(self, lease):
        self.execute("DELETE FROM leases WHERE build_id = %s", lease.build_id)

    def placed(self, lease, name):
        return self.value(
            "SELECT placed FROM uploads WHERE build_id = %s AND name = %s", lease.build_id, name
        )

    def refused(self, lease, name):
        return self.value(
            "SELECT refused FROM uploads WHERE build_id = %s AND name = %s", lease.build_id, name
        )


def connect_as_owner(dsn):
    """A connection whose every statement is a transaction."""
    connection = psycopg2.connect(dsn.replace("postgresql+psycopg2:", "postgresql:", 1))
    connection.autocommit = True
    return connection


def hash_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_wheel(
    folder, package="tiny", version="1.0", tag="py3-none-any", content=b"answer = 42\n", filename=""
):
    """Write a sane wheel; *filename* overrides the name it says itself."""
    info = f"{package}-{version}.dist-info"
    members = {
        f"{package}/__init__.py": content,
        f"{info}/METADATA": (
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
            "Summary: A tiny package\nRequires-Python: >=3.8\n"
        ).encode(),
        f"{info}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
        ).encode(),
    }
    lines = [f"{path},{record_hash(data)},{len(data)}\n" for path, data in members.items()]
    members[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in members.items():
            wheel.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), data)
    path = folder / (filename or f"{package}-{version}-{tag}.whl")
    path.write_bytes(archive.getvalue())
    return path


def record_hash(data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return "sha256=" + digest.rstrip(b"=").decode()
