"""The few kinds of socket the farm has, named for what they do.

Caller     asks and waits for the answer; survives lost answers     (slaves, tools)
Talker     says and hears at will                                   (file senders)
Listener   hears many callers or talkers, answers each              (services)
Broadcaster, Subscriber one says, all hear                          (status)
Mailbox    wakes another thread of the same process
Waiter     waits for any of them, and for plain file descriptors
"""

import os
from pathlib import Path
from typing import Any, Self

import zmq

from piwheels.model.errors import PiwheelsError
from piwheels.protocol.codec import LARGEST_FRAME

KEEPALIVE_SECONDS = 30


class AddressTaken(PiwheelsError):
    """Another process listens on this address."""


class _Socket:
    """What all have in common. Not to be shared between threads."""

    def __init__(self, kind: int) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.IPV6, 1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_FRAME)
        self.socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self.socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_SECONDS)
        self.socket.setsockopt(zmq.HEARTBEAT_IVL, KEEPALIVE_SECONDS * 1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, linger_ms: int = 0) -> None:
        """End the connection; frames not yet sent have *linger_ms* to leave."""
        self.socket.close(linger=linger_ms)

    def _bind(self, address: str) -> str:
        try:
            self.socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise AddressTaken(
                f"cannot listen on {address}: {error.strerror}; is another master running? "
                "End it, or give another address"
            ) from error
        if address.startswith("ipc://"):
            Path(address.removeprefix("ipc://")).chmod(0o600)  # no build may speak here
        return self.socket.getsockopt_string(zmq.LAST_ENDPOINT)


class Caller(_Socket):
    """One question at a time. Asking again drops what was asked before, and its answer."""

    def __init__(self, address: str) -> None:
        super().__init__(zmq.REQ)
        self.socket.setsockopt(zmq.REQ_RELAXED, 1)
        self.socket.setsockopt(zmq.REQ_CORRELATE, 1)
        self.socket.connect(address)

    def ask(self, frame: bytes) -> None:
        """Send *frame*; never blocks."""
        self.socket.send(frame)

    def answer(self) -> bytes | None:
        """The answer to the newest question, or None: it is not here yet, or was taken."""
        try:
            return self.socket.recv(zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EFSM):
                return None
            raise


class Talker(_Socket):
    """Frames out, frames in."""

    def __init__(self, address: str) -> None:
        super().__init__(zmq.DEALER)
        self.socket.connect(address)

    def say(self, frame: bytes) -> None:
        """Send *frame*; blocks while the connection is behind."""
        self.socket.send_multipart([b"", frame])

    def hear(self) -> bytes | None:
        """The next frame, or None if there is none yet."""
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)[-1]
        except zmq.Again:
            return None


Peer = tuple[bytes, ...]  # the envelope of a frame: give it back with the answer


class Listener(_Socket):
    """Hears every Caller or Talker that connects to *address*; *address* says where it is.

    ahead: frames of one peer that may wait here unheard; no peer can fill the memory.
    """

    def __init__(self, address: str, ahead: int = 32) -> None:
        super().__init__(zmq.ROUTER)
        self.socket.setsockopt(zmq.RCVHWM, ahead)
        self.address = self._bind(address)

    def hear(self) -> tuple[Peer, bytes] | None:
        """The next frame and who sent it, or None if there is none yet."""
        try:
            *envelope, frame = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        return tuple(envelope), frame

    def answer(self, peer: Peer, frame: bytes) -> None:
        """Send *frame* to *peer*; a peer that is gone or that does not read is let be."""
        try:
            self.socket.send_multipart([*peer, frame], zmq.NOBLOCK)
        except zmq.Again:
            return


class Broadcaster(_Socket):
    """Says the same to all who listen; remembers nothing."""

    def __init__(self, address: str) -> None:
        super().__init__(zmq.PUB)
        self.address = self._bind(address)

    def say(self, frame: bytes) -> None:
        """Send *frame* to whoever listens now."""
        self.socket.send(frame)


class Subscriber(_Socket):
    """Hears a Broadcaster; only its newest frame."""

    def __init__(self, address: str) -> None:
        super().__init__(zmq.SUB)
        self.socket.setsockopt(zmq.CONFLATE, 1)
        self.socket.subscribe(b"")
        self.socket.connect(address)

    def hear(self) -> bytes | None:
        """The newest frame, or None if none came since the last."""
        try:
            return self.socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None


class Mailbox:
    """Wakes a Waiter in one thread from any other thread."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(self) -> None:
        """Make the descriptor readable."""
        os.eventfd_write(self.descriptor, 1)

    def drain(self) -> None:
        """Make it unreadable again."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)


class Waiter:
    """Waits until one of *sources* has something: sockets, mailboxes, file descriptors."""

    def __init__(self, *sources: Any) -> None:
        self.poller = zmq.Poller()
        for source in sources:
            self.poller.register(_pollable(source), zmq.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Whether one has something, after at most *seconds*."""
        return bool(self.poller.poll(max(0, int(seconds * 1000))))


def _pollable(source: Any) -> Any:
    return getattr(source, "socket", None) or getattr(source, "descriptor", source)
