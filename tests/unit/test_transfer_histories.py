"""Sender and receiver over a channel that loses, repeats and reorders, with crashes."""

import hashlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from piwheels.protocol.files import CHUNK, WINDOW, Chunk, Put, Stored
from piwheels.rules.transfer import (
    MOST_STARTS,
    Append,
    Corrupt,
    Delivered,
    Erase,
    Faltered,
    LookUp,
    Receiving,
    Refuse,
    Say,
    Settled,
    Silence,
    Unknown,
    Verify,
    Verifying,
    Wanted,
    offer,
    receive_step,
    send_step,
)

LEASE = b"0123456789abcdef"
NAME = "build-log.txt"
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, WINDOW * CHUNK, 11 * CHUNK + 7]
PATTERN = bytes(range(251))  # a prime length, so that no two chunks are alike
any_message = st.integers(0, 1_000)


def file_of(size):
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


class Histories(RuleBasedStateMachine):
    """The shells, in memory: what is staged and placed outlives every crash."""

    @initialize(size=st.sampled_from(SIZES))
    def begin(self, size):
        self.file = file_of(size)
        self.put = Put(LEASE, NAME, size, hashlib.sha256(self.file).hexdigest())
        self.staged = bytearray()
        self.placed = None
        self.receiver = Unknown()
        self.flips = 0
        self.to_sender, self.to_receiver = [], []
        self.restart_sender()

    # The shells.

    def sender_hears(self, event):
        self.sender, actions = send_step(self.sender, event)
        self.sender_does(actions)

    def sender_does(self, actions):
        for action in actions:
            if isinstance(action, Say):
                self.to_receiver.append(action.message)
            else:
                data = self.file[action.offset : action.offset + action.length]
                self.to_receiver.append(Chunk(LEASE, NAME, action.offset, data))

    def receiver_hears(self, event):
        self.receiver, actions = receive_step(self.receiver, event)
        for action in actions:
            self.receiver_does(action)

    def receiver_does(self, action):
        match action:
            case Say(message):
                self.to_sender.append(message)
            case LookUp(put):
                known = self.placed is not None
                self.receiver_hears(
                    Settled(Stored(LEASE, NAME)) if known else Wanted(put, len(self.staged))
                )
            case Append(offset, data):
                assert offset == len(self.staged)
                self.staged += data
            case Erase():
                self.staged.clear()
            case Refuse():
                raise AssertionError("a good file was refused")
            case Verify():
                pass  # the rule below ends it, some time

    # What may happen at any moment.

    @rule()
    def restart_sender(self):
        self.sender, actions = offer(self.put)
        self.sender_does(actions)

    @rule(lost=st.integers(0, 2 * CHUNK))
    def restart_receiver(self, lost):
        self.receiver = Unknown()
        del self.staged[max(0, len(self.staged) - lost) :]  # the disk had not got it yet

    @rule()
    def sender_waits_in_vain(self):
        self.sender_hears(Silence())

    @rule()
    def receiver_waits_in_vain(self):
        self.receiver_hears(Silence())

    @precondition(lambda self: self.to_receiver)
    @rule(which=any_message)
    def receiver_gets_any_frame(self, which):
        self.receiver_hears(self.to_receiver.pop(which % len(self.to_receiver)))

    @precondition(lambda self: self.to_sender)
    @rule(which=any_message)
    def sender_gets_any_frame(self, which):
        self.sender_hears(self.to_sender.pop(which % len(self.to_sender)))

    @rule()
    def all_frames_arrive_in_order(self):
        self.deliver()

    @rule(which=any_message)
    def a_frame_is_lost(self, which):
        for channel in filter(None, (self.to_receiver, self.to_sender)):
            channel.pop(which % len(channel))

    @rule(which=any_message)
    def a_frame_is_repeated(self, which):
        for channel in filter(None, (self.to_receiver, self.to_sender)):
            channel.append(channel[which % len(channel)])

    @precondition(lambda self: self.staged and self.flips < MOST_STARTS - 1)
    @rule()
    def a_staged_byte_goes_bad(self):
        self.staged[0] ^= 1
        self.flips += 1

    @precondition(lambda self: isinstance(self.receiver, Verifying))
    @rule(falters=st.booleans())
    def the_verdict_comes(self, falters=False):
        if falters:
            self.receiver_hears(Faltered())
        elif hashlib.sha256(self.staged).hexdigest() != self.put.sha256:
            self.receiver_hears(Corrupt())
        else:
            self.placed = bytes(self.staged)
            self.receiver_hears(Settled(Stored(LEASE, NAME)))

    # What must hold.

    @invariant()
    def nothing_but_the_file_is_placed(self):
        assert self.placed in (None, self.file)

    @invariant()
    def the_state_and_the_staged_bytes_agree(self):
        if isinstance(self.receiver, Receiving):
            assert self.receiver.offset == len(self.staged) < len(self.file)

    def deliver(self):
        arriving, self.to_receiver = self.to_receiver, []
        for message in arriving:
            self.receiver_hears(message)
        arriving, self.to_sender = self.to_sender, []
        for message in arriving:
            self.sender_hears(message)

    def teardown(self):
        if hasattr(self, "put"):
            self.live_on_without_trouble()
            assert self.sender == Delivered(None)
            assert self.placed == self.file

    def live_on_without_trouble(self):
        for _ in range(200):
            if isinstance(self.receiver, Verifying):
                self.the_verdict_comes()
            elif not (self.to_receiver or self.to_sender):
                self.sender_hears(Silence())
            self.deliver()
            if isinstance(self.sender, Delivered):
                return


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
