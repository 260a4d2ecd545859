from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.model.following import Follow, Mode, Project
from piwheels.model.projects import ProjectVersion, Status
from piwheels.model.queue import Lane
from piwheels.rules import following
from piwheels.rules.following import BadMode, Rhythm, counts, lane_of, read_mode, wishes
from piwheels.rules.popularity import BadCounts, read_counts

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE, AFTER = SINCE - timedelta(days=1), SINCE + timedelta(days=1)
DAILY = Rhythm(timedelta(days=1))


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("all", Mode(everything=True)),
        ("listed", Mode()),
        ("listed+dependencies", Mode(needed=True)),
        ("top:5000", Mode(top=5000)),
    ],
)
def test_what_to_follow_is_read_as_people_write_it(text, mode):
    assert read_mode(text) == mode


@pytest.mark.parametrize("text", ["", "some", "top:", "top:0", "top:-1", "top:many", "ALL"])
def test_another_word_for_what_to_follow_is_refused(text):
    with pytest.raises(BadMode, match="write all, listed"):
        read_mode(text)


def test_what_is_listed_is_followed_whatever_else_is():
    modes = [Mode(), Mode(everything=True), Mode(needed=True), Mode(top=1)]
    assert all(counts(mode, Follow.LISTED) for mode in modes)


@pytest.mark.parametrize(
    ("follow", "mode"),
    [
        (Follow.NEEDED, Mode(needed=True)),
        (Follow.POPULAR, Mode(top=1)),
        (Follow.ALL, Mode(everything=True)),
    ],
)
def test_a_reason_to_follow_counts_only_while_the_farm_has_it(follow, mode):
    assert counts(mode, follow)
    assert not counts(Mode(), follow)


@pytest.mark.parametrize(
    ("released", "is_news", "lane"),
    [
        (BEFORE, True, Lane.BACKLOG),
        (AFTER, True, Lane.NEW),
        (AFTER, False, Lane.NEW),
        (None, True, Lane.NEW),
        (None, False, Lane.BACKLOG),
    ],
)
def test_what_was_released_while_it_was_followed_is_new(released, is_news, lane):
    assert lane_of(ProjectVersion("1", released), SINCE, is_news) is lane


def test_without_times_what_an_earlier_page_lacked_is_new():
    page = [ProjectVersion("1"), ProjectVersion("2")]
    unread = Project(1, "six", "six")
    read = Project(1, "six", "six", last_read=AFTER)
    assert set(wishes(unread, SINCE, set(), page).values()) == {Lane.BACKLOG}
    assert wishes(read, SINCE, {"1"}, page) == {"1": Lane.BACKLOG, "2": Lane.NEW}


def test_one_look_at_a_missing_project_proves_nothing():
    assert not following.is_gone(None)
    assert not following.is_gone(59.0)
    assert not following.is_gone(-5.0)  # a clock stepped back
    assert following.is_gone(60.0)


@given(st.integers(0, 32_000), st.floats(0, 1))
def test_what_cannot_be_read_is_tried_ever_more_rarely_but_always_again(attempts, jitter):
    delay = following.retry(attempts, jitter)
    assert following.FIRST_DELAY <= delay <= following.LONGEST_DELAY * 1.5
    assert delay <= following.retry(attempts + 1, jitter)


@given(st.sampled_from(Status), st.booleans(), st.timedeltas(timedelta(0)), st.floats(0, 1))
def test_each_page_is_read_again_in_time(status, is_followed, quiet, jitter):
    wait = following.next_read(DAILY, status, is_followed, quiet, jitter)
    most = DAILY.period * (1 if is_followed and status is Status.ACTIVE else following.RARELY)
    assert timedelta(hours=3) <= wait <= most


def test_what_had_news_lately_is_read_oftener_and_what_is_archived_rarely():
    def wait(status, quiet):
        return following.next_read(DAILY, status, True, timedelta(days=quiet), 0.0)

    assert wait(Status.ACTIVE, 0) < wait(Status.ACTIVE, 5) < wait(Status.ACTIVE, 365)
    assert wait(Status.ACTIVE, 365) < wait(Status.ARCHIVED, 0)


COUNTS = {"zope-interface": 9, "six": 7}


@pytest.mark.parametrize(
    "content",
    [
        "six,7\nZope.Interface,9\n",
        'project,downloads\n"six","7"\nzope.interface,9,more\n\n',
        '[["six", 7], ["zope.interface", 9]]',
        '{"rows": [{"project":"six","download_count":7}, {"name": "zope_interface","count":9}]}',
        '[{"package": "six", "downloads": 7}, {"package": "zope.interface", "downloads": 9}, null]',
        "six,7\nsix,3\nzope.interface,9\nno/name,5\nsix,many",
    ],
)
def test_download_counts_are_read_in_each_form(content):
    assert list(read_counts(content).items()) == list(COUNTS.items())


@pytest.mark.parametrize("content", ["", "<html>", "{}", "[1, 2]", "[" * 100_000, '{"rows": 3}'])
def test_what_has_no_download_counts_is_said_to_have_none(content):
    with pytest.raises(BadCounts, match="write"):
        read_counts(content)


@given(st.text())
def test_any_text_is_read_or_refused(content):
    with suppress(BadCounts):
        assert all(count >= 0 for count in read_counts(content).values())
