"""Sockets: the only importer of zmq.

Every frame is bytes that a Vocabulary of piwheels.protocol encodes and decodes. Listening
sockets drop frames larger than any message before they are read.
"""

from piwheels.transport.sockets import (
    Broadcaster,
    Caller,
    Listener,
    Mailbox,
    Subscriber,
    Talker,
    Waiter,
)

__all__ = ["Broadcaster", "Caller", "Listener", "Mailbox", "Subscriber", "Talker", "Waiter"]
