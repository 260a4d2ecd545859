"""What a slave's daemon says of itself, to a master over a real socket."""

import sys
import threading
from contextlib import contextmanager
from functools import partial

import pytest

from piwheels.protocol.slave import Hello, Idle, Who
from piwheels.slave.builder import Builder
from piwheels.slave.daemon import Daemon, Identity
from piwheels.slave.image import Image
from piwheels.slave.interpreter import probe
from piwheels.slave.machine import health, resources
from piwheels.slave.sandbox import Level, Sandbox
from piwheels.slave.spool import Spool
from tests.builds.scripted_master import WELCOME, Master


@pytest.fixture(scope="module")
def interpreter():
    return probe(sys.executable)


@pytest.fixture
def root(tmp_path):
    """The file system whose image the slave reports."""
    (tmp_path / "root/usr/local/bin").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def slave(tmp_path, interpreter, root):
    """Runs a slave in a thread for as long as the context lasts."""

    @contextmanager
    def start(master, label="tiny"):
        directory = tmp_path / label
        directory.mkdir()
        image = Image(interpreter, root)
        daemon = Daemon(
            address=master.listener.address,
            identity=Identity(label, interpreter.offer),
            builder=Builder(directory, interpreter, Sandbox(interpreter, Level.L0)),
            upload=lambda *_: None,
            spool=Spool(directory / "spool"),
            resources=lambda: resources(directory, "L0", image.digest()),
            health=partial(health, directory),
        )
        thread = threading.Thread(target=daemon.run)
        thread.start()
        try:
            yield daemon
        finally:
            daemon.quit()
            thread.join()

    return start


def test_a_slave_tells_its_run_its_image_and_how_it_is(slave):
    with Master() as master, slave(master):
        hello = master.hear(Hello)
        assert len(hello.run) == 16
        assert len(hello.resources.image) == 32
        master.say(WELCOME)
        idle = master.hear(Idle)
        assert idle.health.memory_free > 0
        assert idle.health.disk_free > 0


def test_the_run_stays_while_the_slave_runs(slave):
    with Master() as master, slave(master):
        first = master.hear(Hello)
        master.say(WELCOME)
        master.hear(Idle)
        master.say(Who())
        assert master.hear(Hello).run == first.run


def test_two_runs_of_one_label_differ(interpreter):
    first, second = (Identity("tiny", interpreter.offer) for _ in range(2))
    assert first.run != second.run


def test_a_slave_where_something_was_installed_says_hello_again(slave, root):
    with Master() as master, slave(master):
        before = master.hear(Hello)
        (root / "usr/local/bin/cmake").touch()
        master.say(WELCOME)
        after = master.hear(Hello)
        assert after.run == before.run
        assert after.resources.image != before.resources.image
        master.say(WELCOME)
        master.hear(Idle)
