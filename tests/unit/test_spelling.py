"""Names that somebody may have meant."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.rules.spelling import LONGEST, did_you_mean, nearest, one_letter_off

NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=LONGEST)


@pytest.mark.parametrize("slip", ["nmpy", "numppy", "nunpy", "nupmy", "umpy", "numpyy"])
def test_a_slip_leads_back_to_the_name(slip):
    assert "numpy" in one_letter_off(slip)


@given(NAMES, NAMES)
def test_slips_go_both_ways(name, other):
    assert (other in one_letter_off(name)) == (name in one_letter_off(other))


@given(NAMES)
def test_slips_are_few_enough_to_ask_an_index_for_all(name):
    assert name not in one_letter_off(name)
    assert len(one_letter_off(name)) <= 78 * len(name) + 40


def test_a_name_too_long_to_try_has_no_slips():
    assert one_letter_off("a" * (LONGEST + 1)) == set()


def test_the_likest_comes_first_and_what_is_not_like_it_not_at_all():
    assert nearest("numppy", ["scipy", "numpy", "numpydoc"])[0] == "numpy"
    assert nearest("numpy", ["flask"]) == []
    assert nearest("tiny-pur", ["tiny-pure", "tiny-broken"]) == ["tiny-pure"]


def test_a_question_is_asked_only_if_there_is_anything_near():
    assert did_you_mean("numppy", ["numpy", "flask"]) == "did you mean numpy?"
    assert did_you_mean("numppy", ["flask"]) == ""
