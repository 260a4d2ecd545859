"""Takes files from slaves: the service around the receiver's table in piwheels.rules.transfer.

One thread hears all senders and stages what they send; few others verify what is complete.
A slave is heard only about files that its lease told of, and holds nothing here but the
state of those. Killed at any moment, the receiver goes on from what is staged and on record.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from sqlalchemy import Engine

from piwheels.database import uploads
from piwheels.database.connection import transaction
from piwheels.database.uploads import ExpectedFile
from piwheels.index.writer import WebTree
from piwheels.master.placement import Verifier
from piwheels.master.staging import StagedFile, Staging
from piwheels.model.errors import BadMessage, Unavailable
from piwheels.protocol.files import FROM_RECEIVER, FROM_SENDER, Chunk, Put, Refused, Stored
from piwheels.rules.transfer import (
    Append,
    Erase,
    Faltered,
    LookUp,
    ReceiverAction,
    ReceiverState,
    Receiving,
    Refuse,
    Say,
    Settled,
    Silence,
    Unfit,
    Unknown,
    Verify,
    Wanted,
    fault_of,
    receive_step,
)
from piwheels.transport.sockets import Listener, Mailbox, Peer, Waiter

LARGEST_FILE = 4 * 1024**3  # bytes
VERIFIERS = 2  # threads
FRAMES_PER_TURN = 64  # heard before anything else is looked at
BEAT_SECONDS = 1.0
SWEEP_SECONDS = 60.0
FIRST_PATIENCE = 15.0  # seconds of a sender's silence; longer than a sender's own
LONGEST_PATIENCE = 240.0  # then its file is forgotten until it is offered again

Key = tuple[bytes, str]  # lease and name

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Transfer:
    """What is remembered of a file on its way. deadline: of patience, monotonic seconds."""

    peer: Peer
    deadline: float
    patience: float
    state: ReceiverState = Unknown()  # noqa: RUF009 (frozen)
    wanted: ExpectedFile | None = None
    staged: StagedFile | None = None


class Receiver:
    """The service. staging: on the file system of the web tree. largest_file: bytes.

    patience: seconds of a sender's silence before it is asked again; then twice as long.
    """

    def __init__(
        self,
        engine: Engine,
        tree_root: Path,
        address: str,
        staging: Path,
        largest_file: int = LARGEST_FILE,
        patience: float = FIRST_PATIENCE,
    ) -> None:
        self.engine = engine
        self.staging = Staging(staging)
        self.verifier = Verifier(engine, WebTree(tree_root))
        self.largest_file = largest_file
        self.patience = patience
        self.dropped = self._dropped_and_told = 0  # frames that were no messages
        self.transfers: dict[Key, Transfer] = {}
        self.verdicts: SimpleQueue[tuple[Key, object]] = SimpleQueue()
        self.mailbox = Mailbox()
        self.pool = ThreadPoolExecutor(VERIFIERS, thread_name_prefix="verifier")
        self.listener = Listener(address)
        self.address = self.listener.address

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        waiter = Waiter(self.listener, self.mailbox)
        next_beat = next_sweep = time.monotonic()
        with self.pool:
            while not is_stopping():
                waiter.wait(max(0.0, next_beat - time.monotonic()))
                self._hear_senders()
                self._hear_verifiers()
                now = time.monotonic()
                if now >= next_beat:
                    next_beat = now + BEAT_SECONDS
                    self._mind_the_silent(now)
                    beat()
                if now >= next_sweep:
                    next_sweep = now + SWEEP_SECONDS
                    self.pool.submit(self.sweep)
                    self._tell_of_hostile_frames()
            self.pool.shutdown(wait=True, cancel_futures=True)
        self.listener.close()
        self.mailbox.close()

    def sweep(self) -> None:
        """Remove the staged files of leases that ended. Never raises."""
        try:
            staged = self.staging.build_ids()  # before the leases, so that no new one is missed
            with transaction(self.engine) as connection:
                live = uploads.live_build_ids(connection)
            self.staging.discard(staged - live)
        except Exception as error:
            log.warning("the staging area could not be swept: %s", error)

    def _tell_of_hostile_frames(self) -> None:
        if self.dropped > self._dropped_and_told:
            log.warning("%d frames so far were no messages; dropped", self.dropped)
            self._dropped_and_told = self.dropped

    def _hear_senders(self) -> None:
        for _ in range(FRAMES_PER_TURN):
            heard = self.listener.hear()
            if heard is None:
                return
            peer, frame = heard
            try:
                message = FROM_SENDER.decode(frame)
            except BadMessage:
                self.dropped += 1
            else:
                self._on_message(peer, message)

    def _on_message(self, peer: Peer, message: Put | Chunk) -> None:
        key = (message.lease, message.name)
        transfer = self.transfers.get(key) or Transfer(peer, 0.0, self.patience)
        transfer.peer = peer  # the newest: a sender that came back has another
        transfer.deadline = time.monotonic() + transfer.patience
        self._on_event(key, transfer, message)

    def _hear_verifiers(self) -> None:
        self.mailbox.drain()
        while True:
            try:
                key, verdict = self.verdicts.get_nowait()
            except Empty:
                return
            self._on_event(key, self.transfers[key], verdict)

    def _mind_the_silent(self, now: float) -> None:
        for key, transfer in list(self.transfers.items()):
            if not isinstance(transfer.state, Receiving) or now < transfer.deadline:
                continue
            transfer.patience *= 2
            transfer.deadline = now + transfer.patience
            is_gone = transfer.patience > LONGEST_PATIENCE
            self._on_event(key, transfer, Faltered() if is_gone else Silence())

    def _on_event(self, key: Key, transfer: Transfer, event: object) -> None:
        """Decide, act, and remember the transfer if there is something to remember."""
        try:
            transfer.state, actions = receive_step(transfer.state, event)
            for action in actions:
                self._perform(key, transfer, action)
        except (OSError, Unavailable) as error:
            # No answer: the sender will offer again, and it goes on from what is staged.
            log.warning("%s must wait: %s", key[1], error)
            transfer.state, _ = receive_step(transfer.state, Faltered())
        if isinstance(transfer.state, Unknown | Settled):
            self.transfers.pop(key, None)
        else:
            self.transfers[key] = transfer

    def _perform(self, key: Key, transfer: Transfer, action: ReceiverAction) -> None:
        """Act; raise OSError or Unavailable if that must wait."""
        match action:
            case Say(message):
                self.listener.answer(transfer.peer, FROM_RECEIVER.encode(message))
            case LookUp(put):
                self._on_event(key, transfer, self._look_up(transfer, put))
            case Append(offset, data):
                _staged(transfer).append(offset, data)
            case Erase():
                _staged(transfer).erase()
            case Refuse(put, reason):
                verdict = self.verifier.refuse(put, _wanted(transfer), reason)
                self._on_event(key, transfer, verdict)
            case Verify(put):
                self.pool.submit(self._verify, key, put, _wanted(transfer), _staged(transfer))

    def _look_up(self, transfer: Transfer, put: Put) -> Wanted | Unfit | Settled:
        with transaction(self.engine) as connection:
            wanted = uploads.expected(connection, put.lease, put.name)
        if wanted is None:
            return Settled(Refused(put.lease, put.name, "no lease asks for this file"))
        if wanted.placed is not None:
            return Settled(Stored(put.lease, put.name))
        if wanted.refused:
            return Settled(Refused(put.lease, put.name, wanted.refused))
        transfer.wanted = wanted
        transfer.staged = self.staging.file(wanted.build_id, put.name)
        if fault := fault_of(put, wanted.size, wanted.sha256, self.largest_file):
            return Unfit(put, fault)
        return Wanted(put, transfer.staged.length())

    def _verify(self, key: Key, put: Put, wanted: ExpectedFile, staged: StagedFile) -> None:
        """In another thread."""
        self.verdicts.put((key, self.verifier.verify(put, wanted, staged)))
        self.mailbox.wake()


def _wanted(transfer: Transfer) -> ExpectedFile:
    """What its lease told of it; there since it was looked up."""
    assert transfer.wanted is not None
    return transfer.wanted


def _staged(transfer: Transfer) -> StagedFile:
    """Its bytes so far; there since it was looked up."""
    assert transfer.staged is not None
    return transfer.staged
