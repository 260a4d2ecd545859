from hypothesis import given
from hypothesis import strategies as st

from piwheels.processes.restarts import GOOD_RUN, LONGEST_PAUSE, recent_deaths, restart_delay

moments = st.floats(min_value=0, max_value=1e6)


def deaths_of_a_crash_loop(number: int) -> tuple[float, ...]:
    """Deaths of a child that dies as soon as it is started, each time."""
    deaths: tuple[float, ...] = ()
    now = 0.0
    for _ in range(number):
        now += restart_delay(deaths, now)
        deaths = recent_deaths(deaths, started=now, died=now)
    return deaths


def test_what_never_died_starts_at_once():
    assert restart_delay((), now=5.0) == 0


def test_the_first_restart_is_immediate():
    assert restart_delay((5.0,), now=5.0) == 0


def test_pauses_double_up_to_the_longest():
    loops = [deaths_of_a_crash_loop(number) for number in range(1, 9)]
    pauses = [restart_delay(deaths, now=deaths[-1]) for deaths in loops]
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]


@given(st.integers(min_value=7, max_value=200))
def test_a_crash_loop_of_any_length_keeps_the_longest_pause_and_a_short_memory(number):
    deaths = deaths_of_a_crash_loop(number)
    assert restart_delay(deaths, now=deaths[-1]) == LONGEST_PAUSE
    assert len(deaths) <= 8


@given(st.lists(moments, min_size=1, max_size=8).map(sorted), moments, moments)
def test_waiting_shortens_the_delay_by_as_much(deaths, earlier, waited):
    now = deaths[-1] + earlier
    before = restart_delay(deaths, now)
    assert restart_delay(deaths, now + before) == 0
    assert restart_delay(deaths, now + waited) <= before


@given(st.lists(moments, max_size=8).map(sorted), moments, st.floats(GOOD_RUN, 1e6))
def test_a_minute_of_good_run_forgives_all_earlier_deaths(deaths, started, run):
    died = started + run
    if died - started >= GOOD_RUN:  # floats may round the run down
        assert recent_deaths(deaths, started, died) == (died,)


def test_a_shorter_run_forgives_nothing():
    assert recent_deaths((1.0, 2.0), started=3.0, died=62.9) == (1.0, 2.0, 62.9)
