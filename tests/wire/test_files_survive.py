"""Deliveries through kill -9, a full disk and a database that is away: real processes."""

import gzip
import itertools
import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from piwheels.model.published import log_path
from piwheels.protocol.files import CHUNK
from piwheels.protocol.slave import LOG_NAME
from piwheels.slave.uploader import send_files
from tests.leased_farm import hash_of, write_wheel
from tests.wire.receiver_process import ReceiverProcess
from tests.wire.test_files import running

PATIENCE = 0.3  # seconds
MEBIBYTE = 1024**2


@pytest.fixture
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


class Delivery:
    """A file on its way, sent by a thread."""

    def __init__(self, pool, address, lease, path, progress):
        self.cancelled = threading.Event()
        self.verdicts = pool.submit(
            send_files,
            address,
            lease.token,
            {path.name: path},
            self.cancelled,
            progress,
            PATIENCE,
        )
        self.done, self.result = self.verdicts.done, self.verdicts.result

    def call_off(self):
        self.cancelled.set()
        self.verdicts.result()


@pytest.fixture
def start_to_send():
    deliveries = []

    def start(address, lease, path, progress=lambda *_: None):
        deliveries.append(Delivery(pool, address, lease, path, progress))
        return deliveries[-1]

    with ThreadPoolExecutor(1) as pool:
        yield start
        for delivery in deliveries:
            delivery.call_off()


def published_log(folder, lease):
    return gzip.decompress((folder / "tree" / log_path(lease.build_id)).read_bytes())


def until(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_receiver_killed_in_the_middle_loses_no_byte_that_it_staged(
    farm, tmp_path, address, start_to_send
):
    log = tmp_path / LOG_NAME
    log.write_bytes(os.urandom(60 * CHUNK))
    lease = farm.lease()
    farm.expect(lease, log)
    staged = tmp_path / "staging" / str(lease.build_id) / LOG_NAME
    sent = []
    is_half_there, is_next_up = threading.Event(), threading.Event()

    def pause_half_way(_, end, __):
        sent.append(end)
        if end == 30 * CHUNK:
            is_half_there.set()
            is_next_up.wait()

    with ReceiverProcess(farm, tmp_path, address) as first:
        sending = start_to_send(address, lease, log, pause_half_way)
        is_half_there.wait()
        first.kill()
    before = staged.stat().st_size
    with ReceiverProcess(farm, tmp_path, address):
        is_next_up.set()
        assert sending.result() == {LOG_NAME: None}
    assert before > 10 * CHUNK
    assert published_log(tmp_path, lease) == log.read_bytes()
    assert (CHUNK + before) in sent  # what was staged was not asked for again
    assert len(sent) < 2 * 60


def test_a_receiver_killed_before_each_of_its_steps_stores_the_wheel_in_the_end(
    farm, tmp_path, address, start_to_send
):
    first = write_wheel(tmp_path, content=b"answer = 1\n")
    taken = tmp_path / "tree" / "simple" / "tiny" / first.name
    taken.parent.mkdir(parents=True)
    first.rename(taken)
    before = taken.read_bytes()
    wheel = write_wheel(tmp_path, content=os.urandom(CHUNK))
    lease = farm.lease()
    farm.expect(lease, wheel)
    with ReceiverProcess(farm, tmp_path, address, dies=True) as receivers:
        for deaths in itertools.count(1):
            sending = start_to_send(address, lease, wheel)
            until(lambda s=sending, n=deaths: s.done() or receivers.deaths() == n)
            if sending.done():
                break
            sending.call_off()
    assert deaths > 10
    assert sending.result() == {wheel.name: None}
    placed = farm.placed(lease, wheel.name)
    assert placed["name"] == "tiny-1.0-1-py3-none-any.whl"
    assert hash_of(taken.with_name(placed["name"])) == placed["sha256"]
    assert taken.read_bytes() == before
    names = sorted(path.name for path in taken.parent.iterdir() if path.suffix == ".whl")
    assert names == [placed["name"], taken.name]


def test_a_disk_that_takes_no_more_delays_a_file_and_refuses_nothing(
    farm, tmp_path, address, start_to_send
):
    log = tmp_path / LOG_NAME
    log.write_bytes(os.urandom(8 * CHUNK))
    lease = farm.lease()
    farm.expect(lease, log)
    staged = tmp_path / "staging" / str(lease.build_id) / LOG_NAME
    limit = 3 * CHUNK + 1000
    with ReceiverProcess(farm, tmp_path, address, largest_write=limit) as receiver:
        sending = start_to_send(address, lease, log)
        until(lambda: staged.exists() and staged.stat().st_size == limit)
        assert receiver.process.poll() is None
    assert farm.refused(lease, LOG_NAME) == ""
    with ReceiverProcess(farm, tmp_path, address):
        assert sending.result() == {LOG_NAME: None}
    assert published_log(tmp_path, lease) == log.read_bytes()


def test_a_database_that_is_away_delays_a_file_and_refuses_nothing(
    farm, tmp_path, start_to_send, caplog
):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    farm.let_in(False)
    with caplog.at_level(logging.WARNING), running(farm, tmp_path) as receiver:
        sending = start_to_send(receiver.address, lease, wheel)
        until(lambda: f"{wheel.name} must wait" in caplog.text)
        assert not sending.done()
        farm.let_in(True)
        assert sending.result() == {wheel.name: None}


def test_a_long_log_passes_through_little_memory(farm, tmp_path, address, start_to_send):
    log = tmp_path / LOG_NAME
    with log.open("wb") as file:
        for number in range(200):
            file.write(f"{number:07d}\n".encode() * (MEBIBYTE // 8))
    lease = farm.lease()
    farm.expect(lease, log)
    with ReceiverProcess(farm, tmp_path, address) as receiver:
        before = receiver.peak_memory()
        assert start_to_send(address, lease, log).result() == {LOG_NAME: None}
        assert receiver.peak_memory() - before < 100 * MEBIBYTE
