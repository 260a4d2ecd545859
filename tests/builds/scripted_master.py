"""A master that says what a test wants it to, over a real socket in the real protocol."""

from piwheels.protocol.slave import FROM_SLAVE, TO_SLAVE, Ack
from piwheels.transport import Listener, Waiter

WELCOME = Ack(slave=1, heartbeat=600, silence=600)
LONGEST_WAIT = 60  # seconds


class Master:
    """Hears one slave. Each message that is heard wants an answer."""

    def __init__(self):
        self.listener = Listener("tcp://127.0.0.1:0")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def hear(self, kind):
        """The next message, which is of *kind*."""
        assert Waiter(self.listener).wait(LONGEST_WAIT), f"the slave does not say {kind}"
        self.peer, frame = self.listener.hear()
        message = FROM_SLAVE.decode(frame)
        assert isinstance(message, kind), message
        return message

    def say(self, message):
        """Answer what was heard last."""
        self.listener.answer(self.peer, TO_SLAVE.encode(message))
