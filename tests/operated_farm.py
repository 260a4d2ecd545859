"""A farm that lives in a database, with the services that operators' tools ask."""

import itertools
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from piwheels.cli.asking import ask_at
from piwheels.database import leases
from piwheels.database.connection import connect, transaction
from piwheels.database.schema import initialize
from piwheels.master import queue
from piwheels.master.admin import Admin
from piwheels.master.keeper import Keeper
from piwheels.master.status import Status
from piwheels.model.targets import TargetOffer
from piwheels.pypi import PyPI
from piwheels.rules.resources import SMALLEST

PATIENCE = 30.0  # seconds; an answer that is late fails the test, one in time ends the wait
ROLES = itertools.count()
MIB = 1024**2


class OperatedFarm:
    """What is in the database is put there as PyPI, slaves and builds would."""

    def __init__(self, dsn: str, folder: str) -> None:
        initialize(dsn, f"role_{os.getpid()}_{next(ROLES)}")
        self.engine = connect(dsn)
        # No index listens there: nothing here asks PyPI.
        self.admin = Admin(self.engine, PyPI("http://127.0.0.1:1/simple/"), f"ipc://{folder}/i")
        self.status = Status(self.engine, f"ipc://{folder}/s", f"ipc://{folder}/c")
        self.keeper = Keeper(self.engine)

    @contextmanager
    def served(self) -> Iterator[None]:
        stop = threading.Event()
        threads = [
            threading.Thread(target=service.serve, args=(stop.is_set, lambda: None))
            for service in (self.admin, self.status)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            self.engine.dispose()

    # Asking

    def ask(self, request: object) -> Any:
        return ask_at(self.admin.address, request, PATIENCE)

    def steer(self, request: object) -> Any:
        return ask_at(self.status.control.address, request, PATIENCE, "control")

    def run(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run piw-<command> as a person would, with nobody at the keyboard."""
        module = f"from piwheels.cli.{command} import main; raise SystemExit(main())"
        return subprocess.run(
            [sys.executable, "-c", module, *words],
            env=os.environ
            | {
                "PIW_IMPORT_QUEUE": self.admin.address,
                "PIW_CONTROL_QUEUE": self.status.control.address,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE * 2,
        )

    # What happens to a farm

    def execute(self, statement: str, **values: Any) -> list[Any]:
        with transaction(self.engine) as connection:
            done = connection.execute(text(statement), values)
            return list(done) if done.returns_rows else []

    def target(self, name: str = "cp311-linux_armv7l", rank: int = 1, tags: str = "") -> int:
        offer = TargetOffer(name, "", "3.11.2", (tags or f"cp311-{name}", "py3-none-any"))
        with transaction(self.engine) as connection:
            return leases.put_target(connection, offer, rank=rank, active=True)

    def slave(self, label: str, target: int, mebibytes: int = 1024) -> int:
        size = (mebibytes * MIB // SMALLEST).bit_length() - 1
        run = secrets.token_bytes(16)
        machine = leases.Machine(4, mebibytes * MIB, 8 * 1024**3, "L0", size, run, "")
        with transaction(self.engine) as connection:
            return leases.put_slave(connection, label, target, machine)

    def version(
        self, package: str, version: str = "1.0", lane: int | None = 1, **details: Any
    ) -> int:
        """A version with a source is known, and asked for unless *lane* is None."""
        ((package_id,),) = self.execute(
            "INSERT INTO packages (name, display_name) VALUES (:name, :name)"
            " ON CONFLICT (name) DO UPDATE SET display_name = :name RETURNING package_id",
            name=package,
        )
        columns = {
            "package_id": package_id,
            "version": version,
            "lane": lane,
            "sdist_name": f"{package}-{version}.tar.gz",
            "sdist_url": "http://127.0.0.1/x",
            "sdist_sha256": "0" * 64,
            **details,
        }
        names = ", ".join(columns)
        places = ", ".join(f":{name}" for name in columns)
        ((version_id,),) = self.execute(
            f"INSERT INTO versions ({names}) VALUES ({places}) RETURNING version_id", **columns
        )
        self.refresh(version_id)
        return int(version_id)

    def refresh(self, *version_ids: int) -> None:
        with transaction(self.engine) as connection:
            queue.refresh(connection, version_ids)

    def lease(self, version_id: int, target: int, slave: int, minutes: int = 5) -> int:
        """A slave has been building it for some minutes."""
        ((build_id,),) = self.execute(
            "INSERT INTO leases (token, version_id, target_id, slave_id, granted, expires, phase)"
            " VALUES (:token, :version, :target, :slave,"
            " now() - make_interval(mins => :minutes), now() + interval '1 hour', 'building')"
            " RETURNING build_id",
            token=secrets.token_bytes(16),
            version=version_id,
            target=target,
            slave=slave,
            minutes=minutes,
        )
        self.refresh(version_id)
        return int(build_id)

    def build(
        self,
        version_id: int,
        target: int,
        slave: int,
        kind: str = "",
        minutes: int = 1,
        **more: Any,
    ) -> int:
        """A build ended now that took so many minutes: well, or with a failure of this kind."""
        build_id = self.lease(version_id, target, slave, minutes)
        columns = {"outcome": "failure" if kind else "success", "kind": kind, **more}
        self.execute(
            "INSERT INTO builds (build_id, token, version_id, target_id, slave_id, started, ended,"
            f" seconds, {', '.join(columns)}) SELECT build_id, token, version_id, target_id,"
            f" slave_id, granted, now(), 60, {', '.join(f':{name}' for name in columns)}"
            " FROM leases WHERE build_id = :build_id",
            build_id=build_id,
            **columns,
        )
        self.execute("DELETE FROM leases WHERE build_id = :build_id", build_id=build_id)
        self.refresh(version_id)
        return build_id

    def file(self, version_id: int, build_id: int, name: str, tag: str) -> None:
        """The build published this."""
        ((tag_set_id,),) = self.execute(
            "INSERT INTO tag_sets (tags) VALUES (ARRAY[:tag])"
            " ON CONFLICT (tags_digest(tags)) DO UPDATE SET tags = EXCLUDED.tags"
            " RETURNING tag_set_id",
            tag=tag,
        )
        self.execute(
            "INSERT INTO files (version_id, build_id, name, size, sha256, metadata_sha256,"
            " tag_set_id, requires_python, published)"
            " VALUES (:version, :build, :name, 1, '', '', :tags, '', now())",
            version=version_id,
            build=build_id,
            name=name,
            tags=tag_set_id,
        )
        self.refresh(version_id)

    def keep(self) -> None:
        """Let the keeper judge again all that is to be."""
        while self.execute("SELECT 1 FROM rejudge"):
            self.keeper.keep()

    def waiting(self) -> list[Any]:
        """What waits: package, version, target_id."""
        return self.execute(
            "SELECT name, version, target_id FROM queue JOIN versions USING (version_id)"
            " JOIN packages USING (package_id) ORDER BY 1, 2, 3"
        )


@pytest.fixture
def operated(database: str) -> Iterator[OperatedFarm]:
    """A farm whose operators' services are up."""
    # Not pytest's own folder: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="piw-") as folder:
        farm = OperatedFarm(database, folder)
        with farm.served():
            yield farm
