"""Files from a slave's uploader to the receiver, over real sockets."""

import gzip
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import cbor2
import pytest

from piwheels.master.receiver import Receiver
from piwheels.model.published import log_path
from piwheels.protocol.files import (
    CHUNK,
    FROM_RECEIVER,
    FROM_SENDER,
    Chunk,
    Fetch,
    Put,
    Refused,
    Stored,
)
from piwheels.protocol.slave import LOG_NAME
from piwheels.rules.ingest import inspect
from piwheels.slave.uploader import send_files
from piwheels.transport.sockets import Talker, Waiter
from tests.addresses import once_free
from tests.leased_farm import hash_of, write_wheel

PATIENCE = 0.3  # seconds


@contextmanager
def running(farm, folder, address="tcp://127.0.0.1:*", **options):
    places = (farm.engine, folder / "tree", address, folder / "staging")
    receiver = once_free(lambda: Receiver(*places, **options))
    stop = threading.Event()
    thread = threading.Thread(target=receiver.serve, args=(stop.is_set, lambda: None))
    thread.start()
    try:
        yield receiver
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def receiver(farm, tmp_path):
    with running(farm, tmp_path) as receiver:
        yield receiver


def send(receiver, lease, *paths, progress=lambda *_: None):
    files = {path.name: path for path in paths}
    return send_files(receiver.address, lease.token, files, threading.Event(), progress, PATIENCE)


def published(folder):
    """All files of the web tree: path and content."""
    tree = folder / "tree"
    paths = (path for path in tree.rglob("*") if path.is_file())
    return {str(path.relative_to(tree)): path.read_bytes() for path in paths}


class RawSender:
    """Says what no honest slave would."""

    def __init__(self, receiver):
        self.talker = Talker(receiver.address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.talker.close()

    def say(self, message):
        self.talker.say(FROM_SENDER.encode(message))

    def hear(self):
        assert Waiter(self.talker).wait(30), "no answer"
        return FROM_RECEIVER.decode(self.talker.hear())


# What is asked for arrives.


def test_a_wheel_is_published_with_its_metadata_beside_it(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease("tiny", "1.0")
    farm.expect(lease, wheel)
    assert send(receiver, lease, wheel) == {wheel.name: None}
    tree = published(tmp_path)
    assert tree[f"simple/tiny/{wheel.name}"] == wheel.read_bytes()
    assert tree[f"simple/tiny/{wheel.name}.metadata"].startswith(b"Metadata-Version: 2.1\n")


def test_what_a_wheel_says_of_itself_goes_on_record(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease("tiny", "1.0")
    farm.expect(lease, wheel)
    send(receiver, lease, wheel)
    metadata = tmp_path / "tree" / "simple" / "tiny" / f"{wheel.name}.metadata"
    assert farm.placed(lease, wheel.name) == {
        "name": wheel.name,
        "size": wheel.stat().st_size,
        "sha256": hash_of(wheel),
        "metadata_sha256": hash_of(metadata),
        "tags": ["py3-none-any"],
        "requires_python": ">=3.8",
        "summary": "A tiny package",
    }


def test_a_log_is_published_compressed_under_its_build(farm, receiver, tmp_path):
    log = tmp_path / LOG_NAME
    log.write_bytes(b"running build\n" * 100_000)
    lease = farm.lease()
    farm.expect(lease, log)
    assert send(receiver, lease, log) == {LOG_NAME: None}
    path = log_path(lease.build_id)
    assert gzip.decompress(published(tmp_path)[path]) == log.read_bytes()
    assert farm.placed(lease, LOG_NAME) == {"log": path}


def test_an_empty_log_arrives_too(farm, receiver, tmp_path):
    log = tmp_path / LOG_NAME
    log.touch()
    lease = farm.lease()
    farm.expect(lease, log)
    assert send(receiver, lease, log) == {LOG_NAME: None}
    assert gzip.decompress(published(tmp_path)[log_path(lease.build_id)]) == b""


def test_a_file_that_is_stored_is_not_sent_again(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    send(receiver, lease, wheel)
    sent = []
    assert send(receiver, lease, wheel, progress=lambda *what: sent.append(what)) == {
        wheel.name: None
    }
    assert sent == []


def test_a_transfer_goes_on_where_what_is_staged_ends(farm, receiver, tmp_path):
    log = tmp_path / LOG_NAME
    log.write_bytes(os.urandom(5 * CHUNK))
    lease = farm.lease()
    farm.expect(lease, log)
    staged = tmp_path / "staging" / str(lease.build_id) / LOG_NAME
    staged.parent.mkdir()
    staged.write_bytes(log.read_bytes()[: CHUNK + 7])
    sent = []
    send(receiver, lease, log, progress=lambda _, end, size: sent.append(end))
    assert sent[0] == 2 * CHUNK + 7
    assert gzip.decompress(published(tmp_path)[log_path(lease.build_id)]) == log.read_bytes()


def test_staged_bytes_that_went_bad_are_fetched_anew(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    staged = tmp_path / "staging" / str(lease.build_id) / wheel.name
    staged.parent.mkdir()
    staged.write_bytes(bytes(wheel.stat().st_size))
    assert send(receiver, lease, wheel) == {wheel.name: None}
    assert published(tmp_path)[f"simple/tiny/{wheel.name}"] == wheel.read_bytes()


def test_three_slaves_deliver_at_once(farm, receiver, tmp_path):
    deliveries = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        wheel = write_wheel(folder, f"tiny{number}", content=os.urandom(20 * CHUNK))
        lease = farm.lease(f"tiny{number}", "1.0")
        farm.expect(lease, wheel)
        deliveries.append((lease, wheel))
    with ThreadPoolExecutor(3) as pool:
        verdicts = list(pool.map(lambda delivery: send(receiver, *delivery), deliveries))
    assert verdicts == [{wheel.name: None} for _, wheel in deliveries]
    tree = published(tmp_path)
    for number, (_, wheel) in enumerate(deliveries):
        assert tree[f"simple/tiny{number}/{wheel.name}"] == wheel.read_bytes()


def test_nothing_stays_staged_once_it_is_on_record(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    send(receiver, lease, wheel)
    assert [path for path in (tmp_path / "staging").rglob("*") if path.is_file()] == []


# A name has one content for ever.


def deliver_wheel(farm, receiver, folder, content):
    folder.mkdir()
    wheel = write_wheel(folder, content=content)
    lease = farm.lease()
    farm.expect(lease, wheel)
    assert send(receiver, lease, wheel) == {wheel.name: None}
    return farm.placed(lease, wheel.name)


def test_each_rebuild_is_published_under_the_next_build_tag(farm, receiver, tmp_path):
    names = [
        deliver_wheel(farm, receiver, tmp_path / str(n), f"answer = {n}\n".encode())["name"]
        for n in range(3)
    ]
    assert names == [
        "tiny-1.0-py3-none-any.whl",
        "tiny-1.0-1-py3-none-any.whl",
        "tiny-1.0-2-py3-none-any.whl",
    ]


def test_a_rebuild_is_a_sane_wheel_and_the_one_on_record(farm, receiver, tmp_path):
    deliver_wheel(farm, receiver, tmp_path / "first", b"answer = 1\n")
    placed = deliver_wheel(farm, receiver, tmp_path / "second", b"answer = 2\n")
    path = tmp_path / "tree" / "simple" / "tiny" / placed["name"]
    with path.open("rb") as wheel:
        report = inspect(wheel, path.name)
    assert (placed["size"], placed["sha256"]) == (path.stat().st_size, hash_of(path))
    assert placed["metadata_sha256"] == report.metadata_sha256


def test_the_same_bytes_again_keep_their_name(farm, receiver, tmp_path):
    first = deliver_wheel(farm, receiver, tmp_path / "first", b"answer = 1\n")
    assert deliver_wheel(farm, receiver, tmp_path / "again", b"answer = 1\n") == first


def test_a_rebuild_that_was_placed_and_not_recorded_keeps_its_tag(farm, receiver, tmp_path):
    deliver_wheel(farm, receiver, tmp_path / "first", b"answer = 1\n")
    second = deliver_wheel(farm, receiver, tmp_path / "second", b"answer = 2\n")
    assert deliver_wheel(farm, receiver, tmp_path / "again", b"answer = 2\n") == second


# Nothing else is published.


def test_a_file_that_no_lease_told_of_is_refused(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    assert send(receiver, farm.lease(), wheel) == {wheel.name: "no lease asks for this file"}
    assert published(tmp_path) == {}


def test_a_file_of_another_slaves_lease_is_refused(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    farm.expect(farm.lease(), wheel)
    assert send(receiver, farm.lease(), wheel) == {wheel.name: "no lease asks for this file"}


def test_a_file_that_changed_since_it_was_told_of_is_refused_on_record(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    write_wheel(tmp_path, content=b"answer = 43\n")
    verdict = send(receiver, lease, wheel)[wheel.name]
    assert "is not the file that BUILT told of" in verdict
    assert farm.refused(lease, wheel.name) == verdict


def test_a_file_above_the_operators_limit_is_refused_on_record(farm, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    with running(farm, tmp_path, largest_file=wheel.stat().st_size - 1) as receiver:
        assert "at most" in send(receiver, lease, wheel)[wheel.name]
    assert "at most" in farm.refused(lease, wheel.name)


@pytest.mark.parametrize(
    ("wheel", "reason"),
    [
        ({"package": "other"}, "tiny was asked for"),
        ({"version": "2.0"}, "1.0 was asked for"),
        ({"tag": "cp39-cp39-linux_armv7l"}, "does not install on the target"),
        ({"filename": "tiny-1.0-py2-none-any.whl"}, "tags in its WHEEL"),
        ({"filename": "tiny-1.0.zip"}, "not a wheel's name"),
    ],
    ids=["package", "version", "target", "tags", "name"],
)
def test_a_wheel_other_than_the_one_asked_for_is_refused_on_record(
    farm, receiver, tmp_path, wheel, reason
):
    path = write_wheel(tmp_path, **wheel)
    lease = farm.lease("tiny", "1.0")
    farm.expect(lease, path)
    assert reason in send(receiver, lease, path)[path.name]
    assert reason in farm.refused(lease, path.name)
    assert published(tmp_path) == {}


def test_a_refused_file_stays_refused(farm, receiver, tmp_path):
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    wheel.write_bytes(b"no archive at all")
    lease = farm.lease()
    farm.expect(lease, wheel)
    verdicts = [send(receiver, lease, wheel), send(receiver, lease, wheel)]
    assert verdicts[0] == verdicts[1] == {wheel.name: farm.refused(lease, wheel.name)}


def test_bytes_other_than_those_announced_are_refused_in_the_end(farm, receiver, tmp_path):
    lease = farm.lease()
    farm.expect_bytes(lease, LOG_NAME, 9, hashlib.sha256(b"the truth").hexdigest())
    with RawSender(receiver) as sender:
        sender.say(Put(lease.token, LOG_NAME, 9, hashlib.sha256(b"the truth").hexdigest()))
        while isinstance(message := sender.hear(), Fetch):
            sender.say(Chunk(lease.token, LOG_NAME, 0, b"all a lie"))
    assert isinstance(message, Refused)
    assert farm.refused(lease, LOG_NAME) == message.reason
    assert published(tmp_path) == {}


def test_a_published_wheel_does_not_change_when_its_build_reports_another(farm, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    placed = tmp_path / "tree" / "simple" / "tiny" / wheel.name
    staged = tmp_path / "staging" / str(lease.build_id) / wheel.name
    for folder in (placed.parent, staged.parent):
        folder.mkdir(parents=True)
    placed.write_bytes(wheel.read_bytes())
    os.link(placed, staged)  # as a crash between placing and recording leaves it
    before = placed.read_bytes()
    longer = write_wheel(tmp_path, content=b"answer = 43\n" * 1000)
    farm.expect(lease, longer)
    with running(farm, tmp_path) as receiver:
        assert send(receiver, lease, longer) == {wheel.name: None}
    assert placed.read_bytes() == before


# Hostile senders disturb nobody.


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "/etc/passwd", ".htaccess", "a/b.whl", "a\0b", "", "x" * 256]
)
def test_a_name_that_is_a_path_is_no_message(farm, receiver, tmp_path, name):
    put = {"type": "PUT", "lease": farm.lease().token, "name": name, "size": 1, "sha256": "0" * 64}
    with RawSender(receiver) as sender:
        sender.talker.say(cbor2.dumps(put))
        say_and_hear_of_nothing(sender)
    assert receiver.dropped == 1


def test_hostile_frames_are_counted_and_disturb_no_delivery(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    frames = [b"", b"\xff" * 100, os.urandom(CHUNK), b"\x9f" * 50, cbor2.dumps({"type": "STORED"})]
    with RawSender(receiver) as sender:
        for frame in frames * 20:
            sender.talker.say(frame)
        assert send(receiver, lease, wheel) == {wheel.name: None}
        say_and_hear_of_nothing(sender)
    assert receiver.dropped == len(frames) * 20


def test_a_sender_that_falls_silent_holds_up_nobody(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease, silent = farm.lease(), farm.lease()
    farm.expect(lease, wheel)
    farm.expect_bytes(silent, LOG_NAME, 10**9, "0" * 64)
    with RawSender(receiver) as sender:
        sender.say(Put(silent.token, LOG_NAME, 10**9, "0" * 64))
        assert isinstance(sender.hear(), Fetch)
        assert send(receiver, lease, wheel) == {wheel.name: None}


def test_a_sender_that_falls_silent_is_asked_again(farm, tmp_path):
    lease = farm.lease()
    farm.expect_bytes(lease, LOG_NAME, 5, "0" * 64)
    with running(farm, tmp_path, patience=PATIENCE) as receiver, RawSender(receiver) as sender:
        sender.say(Put(lease.token, LOG_NAME, 5, "0" * 64))
        asked = Fetch(lease.token, LOG_NAME, 0, 5)
        assert [sender.hear(), sender.hear()] == [asked, asked]


def say_and_hear_of_nothing(sender):
    """All that was said before this is heard once it is answered."""
    sender.say(Put(b"nobody's lease!!", "any", 1, "0" * 64))
    assert isinstance(sender.hear(), Refused)


# The sender's own troubles.


def test_a_file_that_is_gone_is_told_of_and_the_next_one_is_sent(farm, receiver, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    verdicts = send(receiver, lease, tmp_path / "gone.whl", wheel)
    assert "cannot be read" in verdicts["gone.whl"]
    assert verdicts[wheel.name] is None


def test_an_unreachable_receiver_is_waited_for_until_all_is_called_off(tmp_path):
    log = tmp_path / LOG_NAME
    log.write_bytes(b"nobody hears this")
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        files = {LOG_NAME: log}
        sending = pool.submit(
            send_files, f"ipc://{tmp_path.name}-nobody", b"0" * 16, files, cancelled
        )
        assert not sending.done()
        cancelled.set()
        assert sending.result(timeout=60) == {}


def test_a_delivery_that_was_called_off_is_taken_up_where_it_ended(farm, receiver, tmp_path):
    log = tmp_path / LOG_NAME
    log.write_bytes(os.urandom(40 * CHUNK))
    lease = farm.lease()
    farm.expect(lease, log)
    cancelled = threading.Event()

    def call_off(_, end, __):
        if end >= 20 * CHUNK:
            cancelled.set()

    files = {LOG_NAME: log}
    assert send_files(receiver.address, lease.token, files, cancelled, call_off) == {}
    sent = []
    assert send(receiver, lease, log, progress=lambda _, end, __: sent.append(end)) == {
        LOG_NAME: None
    }
    assert sent[0] > 10 * CHUNK


# What is left behind is swept.


def test_the_staged_files_of_ended_leases_are_swept_and_no_others(farm, tmp_path):
    ended, live = farm.lease(), farm.lease()
    for lease in (ended, live):
        folder = tmp_path / "staging" / str(lease.build_id)
        folder.mkdir(parents=True)
        (folder / LOG_NAME).write_bytes(b"half")
    farm.end(ended)
    receiver = Receiver(farm.engine, tmp_path / "tree", "tcp://127.0.0.1:*", tmp_path / "staging")
    receiver.sweep()
    receiver.listener.close()
    left = [path.name for path in (tmp_path / "staging").iterdir()]
    assert left == [str(live.build_id)]


def test_what_is_stored_is_told_even_by_the_next_receiver(farm, tmp_path):
    wheel = write_wheel(tmp_path)
    lease = farm.lease()
    farm.expect(lease, wheel)
    with running(farm, tmp_path) as receiver:
        send(receiver, lease, wheel)
        address = receiver.address
    with running(farm, tmp_path, address) as receiver, RawSender(receiver) as sender:
        sender.say(Put(lease.token, wheel.name, wheel.stat().st_size, hash_of(wheel)))
        assert sender.hear() == Stored(lease.token, wheel.name)
