"""Which build requirements count for a release of long ago."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.rules.era import CYTHON_3, PYTHONS, Cutoff, cutoffs

MOMENTS = st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
VERSIONS = st.sampled_from(["3.8.18", "3.9.2", "3.11.2", "3.12.0", "3.13.1", "3.14.0rc1", "3.20.1"])


def test_without_an_era_everything_counts():
    assert cutoffs(None, "3.11.2") == (Cutoff(),)


def test_tools_are_of_the_moment_of_the_release():
    moment = datetime(2021, 5, 1, tzinfo=UTC)
    first, *_ = cutoffs(moment, "3.11.2")
    assert first.before == first.tools["setuptools"] == moment


def test_tools_are_never_older_than_what_works_on_the_python():
    first, *_ = cutoffs(datetime(2012, 1, 1, tzinfo=UTC), "3.12.1")
    assert first.tools["setuptools"] == PYTHONS[3, 12].setuptools


def test_an_old_release_gets_the_last_cython_of_the_old_kind():
    first, *_ = cutoffs(datetime(2016, 1, 1, tzinfo=UTC), "3.11.2")
    assert first.tools["cython"] == CYTHON_3


def test_what_had_no_wheels_before_its_python_came_out_is_taken_from_after_that():
    moments = [cutoff.before for cutoff in cutoffs(datetime(2016, 1, 1, tzinfo=UTC), "3.11.2")]
    assert moments[1] > PYTHONS[3, 11].released
    assert moments[2] is None


def test_a_release_younger_than_its_python_has_but_its_own_era():
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    assert [cutoff.before for cutoff in cutoffs(moment, "3.11.2")] == [moment, None]


@given(MOMENTS, VERSIONS)
def test_each_cutoff_lets_in_more_than_the_one_before(moment, python):
    *limited, last = cutoffs(moment, python)
    moments = [cutoff.before for cutoff in limited]
    assert moments == sorted(set(moments))
    assert last.before is None


@given(MOMENTS, VERSIONS)
def test_tools_stay_in_their_era_whatever_else_is_taken(moment, python):
    tools = {tuple(cutoff.tools.items()) for cutoff in cutoffs(moment, python)}
    assert len(tools) == 1


@pytest.mark.parametrize("python", ["3.20.0", "4.0.0"])
def test_a_python_nobody_knows_yet_is_taken_for_the_newest_known(python):
    moment = datetime(2016, 1, 1, tzinfo=UTC)
    assert cutoffs(moment, python) == cutoffs(moment, "3.14.0")
