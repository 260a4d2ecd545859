import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.processes.heart import VARIABLE, Heart, HeartMonitor, heart_pipe


@pytest.fixture
def pair() -> Iterator[tuple[Heart, HeartMonitor]]:
    monitor, voice = heart_pipe()
    yield Heart(voice), monitor
    os.close(voice)
    os.close(monitor.fd)


def test_a_monitor_hears_readiness_beats_and_last_words(pair):
    heart, monitor = pair
    heart.ready()
    heart.beat()
    heart.last_words("no such\n directory")
    assert monitor.listen(now=7.0)
    assert (monitor.is_ready, monitor.last_beat) == (True, 7.0)
    assert monitor.last_words == "no such directory"


def test_a_new_heart_has_promised_nothing(pair):
    _, monitor = pair
    assert monitor.listen(now=7.0)
    assert (monitor.is_ready, monitor.last_beat, monitor.last_words) == (False, None, "")


def test_a_monitor_notices_that_nobody_can_speak_any_more():
    monitor, voice = heart_pipe()
    os.close(voice)
    assert not monitor.listen(now=0.0)
    os.close(monitor.fd)


def test_a_heart_whose_supervisor_is_gone_beats_on():
    monitor, voice = heart_pipe()
    os.close(monitor.fd)
    Heart(voice).beat()
    os.close(voice)


def test_a_heart_that_nobody_listens_to_never_blocks(pair):
    heart, monitor = pair
    for _ in range(20_000):  # more than a pipe holds
        heart.beat()
    assert monitor.listen(now=1.0)
    assert monitor.last_beat == 1.0


def test_a_heart_without_a_supervisor_beats_for_nobody(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    heart = Heart.from_environment()
    heart.ready()
    assert heart.fd is None


def test_a_heart_from_the_environment_is_not_inherited_further(pair, monkeypatch):
    given_heart, monitor = pair
    copy = os.dup(given_heart.fd)
    os.set_inheritable(copy, True)
    monkeypatch.setenv(VARIABLE, str(copy))
    heart = Heart.from_environment()
    heart.ready()
    assert monitor.listen(now=0.0)
    assert monitor.is_ready
    assert VARIABLE not in os.environ
    assert not os.get_inheritable(copy)
    os.close(copy)


@given(st.binary(max_size=300), st.integers(min_value=1, max_value=20))
def test_whatever_bytes_arrive_in_whatever_pieces_the_next_line_is_understood(noise, size):
    monitor, voice = heart_pipe()
    said = noise + b"\nready\n"
    for start in range(0, len(said), size):
        os.write(voice, said[start : start + size])
        assert monitor.listen(now=0.0)
    os.close(voice)
    os.close(monitor.fd)
    assert monitor.is_ready
