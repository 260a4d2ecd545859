import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from piwheels.processes import systemd
from piwheels.processes.systemd import Systemd


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager's socket, and its address as NOTIFY_SOCKET spells it."""
    name = tmp_path.name + str(os.getpid())
    spelled = f"@piwheels-{name}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(spelled.replace("@", "\0", 1))
        channel.settimeout(10)
        yield spelled, channel


def test_notices_reach_the_manager_in_one_message(manager):
    address, channel = manager
    Systemd.from_environment({"NOTIFY_SOCKET": address}).notify(
        systemd.READY, systemd.status("7 of 8\nready")
    )
    assert channel.recv(4096) == b"READY=1\nSTATUS=7 of 8 ready"


def test_without_a_manager_notices_go_nowhere():
    service = Systemd.from_environment({})
    service.notify(systemd.READY)
    assert service == Systemd(address=None, watchdog=None)


def test_a_manager_that_is_gone_is_no_failure(tmp_path):
    Systemd.from_environment({"NOTIFY_SOCKET": str(tmp_path / "gone")}).notify(systemd.ALIVE)


def test_what_the_manager_said_is_not_passed_on_to_children():
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Systemd.from_environment(environment)
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_heeded_if_it_watches_this_process(environment, seconds):
    assert Systemd.from_environment(dict(environment)).watchdog == seconds
