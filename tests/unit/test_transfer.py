"""The rules of a file's way to the farm: piwheels.rules.transfer."""

import hashlib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.model.errors import IllegalMessage
from piwheels.protocol.files import CHUNK, WINDOW, Chunk, Fetch, Put, Refused, Stored
from piwheels.rules import transfer
from piwheels.rules.transfer import (
    MOST_STARTS,
    RECEIVER,
    SENDER,
    Append,
    Corrupt,
    Delivered,
    Erase,
    Faltered,
    LookUp,
    Offering,
    Read,
    Receiving,
    Refuse,
    Say,
    Sending,
    Settled,
    Silence,
    Unfit,
    Unknown,
    Verify,
    Verifying,
    Wanted,
    fault_of,
    receive_step,
    send_step,
)

LEASE = b"0123456789abcdef"
NAME = "tiny-1.0-py3-none-any.whl"
SIZE = 20 * CHUNK + 7
PUT = Put(LEASE, NAME, SIZE, hashlib.sha256().hexdigest())
STORED = Stored(LEASE, NAME)
REFUSED = Refused(LEASE, NAME, "it is broken")

SENDER_STATES = [Offering(PUT), Sending(PUT), Delivered(None)]
SENDER_EVENTS = [Fetch(LEASE, NAME, 0, CHUNK), STORED, REFUSED, Silence(), PUT, "noise"]
RECEIVER_STATES = [Unknown(), Receiving(PUT, CHUNK, 9 * CHUNK), Verifying(PUT), Settled(STORED)]
RECEIVER_EVENTS = [
    PUT,
    Chunk(LEASE, NAME, CHUNK, bytes(CHUNK)),
    Wanted(PUT, 0),
    Unfit(PUT, "no"),
    Settled(STORED),
    Corrupt(),
    Faltered(),
    Silence(),
    "noise",
]


def fetches(actions):
    return [action.message.offset for action in actions if isinstance(action, Say)]


@pytest.mark.parametrize(("state", "event"), list(product(SENDER_STATES, SENDER_EVENTS)))
def test_the_sender_knows_what_to_do_or_says_that_it_is_illegal(state, event):
    if (type(state), type(event)) in SENDER:
        following, _ = send_step(state, event)
        assert isinstance(following, transfer.SenderState)
    else:
        with pytest.raises(IllegalMessage, match=type(state).__name__):
            send_step(state, event)


@pytest.mark.parametrize(("state", "event"), list(product(RECEIVER_STATES, RECEIVER_EVENTS)))
def test_the_receiver_knows_what_to_do_or_says_that_it_is_illegal(state, event):
    if (type(state), type(event)) in RECEIVER:
        following, _ = receive_step(state, event)
        assert isinstance(following, transfer.ReceiverState)
    else:
        with pytest.raises(IllegalMessage, match=type(state).__name__):
            receive_step(state, event)


@pytest.mark.parametrize(("state", "message"), list(product(SENDER_STATES, SENDER_EVENTS[:3])))
def test_nothing_that_a_receiver_can_say_is_illegal_for_a_sender(state, message):
    assert (type(state), type(message)) in SENDER


@pytest.mark.parametrize(("state", "message"), list(product(RECEIVER_STATES, RECEIVER_EVENTS[:2])))
def test_nothing_that_a_sender_can_say_is_illegal_for_a_receiver(state, message):
    assert (type(state), type(message)) in RECEIVER


def test_the_sender_offers_again_when_it_hears_nothing():
    assert send_step(Sending(PUT), Silence()) == (Offering(PUT), [Say(PUT)])


def test_the_sender_reads_what_it_is_asked_for():
    state, actions = send_step(Offering(PUT), Fetch(LEASE, NAME, SIZE - 7, 7))
    assert (state, actions) == (Sending(PUT), [Read(SIZE - 7, 7)])


def test_the_sender_calls_asking_beyond_the_end_illegal():
    with pytest.raises(IllegalMessage):
        send_step(Sending(PUT), Fetch(LEASE, NAME, SIZE - 7, 8))


def test_the_sender_ends_with_the_reason_of_a_refusal():
    assert send_step(Sending(PUT), REFUSED) == (Delivered("it is broken"), [])


def test_the_receiver_looks_up_an_offer_before_it_asks_for_a_byte():
    assert receive_step(Unknown(), PUT) == (Unknown(), [LookUp(PUT)])


def test_the_receiver_asks_for_one_window_at_first():
    _, actions = receive_step(Unknown(), Wanted(PUT, 0))
    assert fetches(actions) == [n * CHUNK for n in range(WINDOW)]


@given(staged=st.integers(0, SIZE))
def test_the_receiver_resumes_at_any_offset(staged):
    state, actions = receive_step(Unknown(), Wanted(PUT, staged))
    if staged == SIZE:
        assert (state, actions) == (Verifying(PUT), [Verify(PUT)])
    else:
        assert fetches(actions)[0] == state.offset == staged


def test_the_receiver_starts_over_where_more_is_staged_than_was_announced():
    state, actions = receive_step(Unknown(), Wanted(PUT, SIZE + 1))
    assert state.offset == 0
    assert actions[0] == Erase()


def test_an_empty_file_is_verified_at_once():
    empty = Put(LEASE, NAME, 0, hashlib.sha256().hexdigest())
    assert receive_step(Unknown(), Wanted(empty, 0)) == (Verifying(empty), [Verify(empty)])


@given(st.lists(st.tuples(st.integers(0, 21), st.integers(1, CHUNK)), max_size=30))
def test_the_receiver_never_has_more_than_a_window_on_its_way(chunks):
    state, _ = receive_step(Unknown(), Wanted(PUT, 0))
    for number, length in chunks:
        state, _ = receive_step(state, Chunk(LEASE, NAME, number * CHUNK, bytes(length)))
        assert state.asked - state.offset <= WINDOW * CHUNK


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(LEASE, NAME, 0, bytes(CHUNK)),
        Chunk(LEASE, NAME, 2 * CHUNK, bytes(CHUNK)),
        Chunk(LEASE, NAME, CHUNK, bytes(CHUNK - 1)),
        Chunk(LEASE, NAME, CHUNK, bytes(CHUNK + 1)),
        Chunk(LEASE, NAME, 2**62, bytes(CHUNK)),
    ],
    ids=["late", "early", "short", "long", "far"],
)
def test_the_receiver_ignores_a_chunk_that_is_not_the_next(chunk):
    state = Receiving(PUT, CHUNK, 9 * CHUNK)
    assert receive_step(state, chunk) == (state, [])


def test_the_receiver_stages_the_next_chunk_and_asks_for_one_more():
    state, actions = receive_step(
        Receiving(PUT, CHUNK, 9 * CHUNK), Chunk(LEASE, NAME, CHUNK, bytes(CHUNK))
    )
    assert state.offset == 2 * CHUNK
    assert actions[0] == Append(CHUNK, bytes(CHUNK))
    assert fetches(actions) == [9 * CHUNK]


def test_the_last_chunk_leads_to_the_verdict():
    last = Chunk(LEASE, NAME, 20 * CHUNK, bytes(7))
    state, actions = receive_step(Receiving(PUT, 20 * CHUNK, 21 * CHUNK), last)
    assert (state, actions) == (Verifying(PUT), [Append(20 * CHUNK, bytes(7)), Verify(PUT)])


@pytest.mark.parametrize("event", [Silence(), PUT], ids=["silence", "another offer"])
def test_the_receiver_asks_again_for_what_is_not_here(event):
    _, actions = receive_step(Receiving(PUT, 3 * CHUNK, 11 * CHUNK), event)
    assert fetches(actions)[0] == 3 * CHUNK


def test_an_offer_of_another_file_under_the_name_is_looked_up():
    other = Put(LEASE, NAME, 5, PUT.sha256)
    assert receive_step(Receiving(PUT, 0, CHUNK), other) == (Unknown(), [LookUp(other)])


def test_an_unfit_file_is_refused_on_record_before_its_sender_is_told():
    state, actions = receive_step(Unknown(), Unfit(PUT, "too large"))
    assert actions == [Refuse(PUT, "too large")]
    assert receive_step(state, Settled(REFUSED)) == (Settled(REFUSED), [Say(REFUSED)])


def test_corrupt_bytes_are_fetched_anew():
    state, actions = receive_step(Verifying(PUT), Corrupt())
    assert actions[0] == Erase()
    assert fetches(actions)[0] == state.offset == 0


def test_bytes_that_stay_corrupt_are_refused():
    state, actions = receive_step(Verifying(PUT, MOST_STARTS), Corrupt())
    assert [type(action) for action in actions] == [Erase, Refuse]
    assert isinstance(state, Verifying)


def test_a_verdict_is_told_again_to_whoever_asks_again():
    assert receive_step(Settled(REFUSED), PUT) == (Settled(REFUSED), [Say(REFUSED)])


def test_a_fault_of_the_farm_is_no_verdict():
    assert receive_step(Verifying(PUT), Faltered()) == (Unknown(), [])


@pytest.mark.parametrize(
    ("size", "sha256", "largest", "reason"),
    [
        (SIZE, PUT.sha256, SIZE, None),
        (SIZE - 1, PUT.sha256, SIZE, "not the file"),
        (SIZE, "0" * 64, SIZE, "not the file"),
        (SIZE, PUT.sha256, SIZE - 1, "at most"),
    ],
    ids=["as asked for", "another size", "another hash", "too large"],
)
def test_only_the_offer_of_the_file_asked_for_is_without_fault(size, sha256, largest, reason):
    fault = fault_of(PUT, size, sha256, largest)
    assert fault is None if reason is None else reason in fault
