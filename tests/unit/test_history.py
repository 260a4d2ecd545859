"""What a PyPI for tests says follows from what happened on it, and from nothing else."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from piwheels.pypi.page import JSON, parse_page, read_page
from tests.generated import SERIALS, Generated
from tests.histories import histories
from tests.history import (
    Archived,
    Cleared,
    Created,
    File,
    FileAdded,
    FileRemoved,
    History,
    Impossible,
    Quarantined,
    Released,
    ReleaseRemoved,
    Removed,
    RoleChanged,
    Yanked,
    action_of,
)

SIX = History().release("six", "1.0", File("six-1.0.tar.gz", b"old"))


def page(history, serial=None):
    return history.page("six", "https://files/", serial)


def test_each_event_has_a_row_with_the_next_serial():
    history = SIX.then(RoleChanged("SIX"))
    assert [
        (name, version, action, serial) for name, version, _, action, serial in history.rows(0)
    ] == [
        ("six", None, "create", 1),
        ("six", "1.0", "new release", 2),
        ("six", "1.0", "add source file six-1.0.tar.gz", 3),
        ("SIX", None, "add Owner somebody", 4),
    ]


def test_serials_may_have_gaps():
    assert [row[4] for row in SIX.then(RoleChanged("six"), gap=10).rows(3)] == [14]


def test_archiving_writes_no_row_and_changes_no_serial_but_the_page():
    archived = SIX.then(Archived("six", "finished"))
    assert list(archived.rows(0)) == list(SIX.rows(0))
    assert page(archived) == page(SIX) | {
        "project-status": {"status": "archived", "reason": "finished"}
    }


def test_a_project_in_quarantine_has_an_empty_page_and_is_not_in_the_list():
    quarantined = SIX.then(Quarantined("six"))
    assert page(quarantined)["files"] == page(quarantined)["versions"] == []
    assert list(quarantined.serials()) == []
    assert page(quarantined.then(Cleared("six")))["files"] == page(SIX)["files"]


def test_a_release_is_yanked_with_all_of_its_files():
    wheel = File("six-1.0-py3-none-any.whl")
    yanked = SIX.then(Yanked("six", "1.0", "broken")).then(FileAdded("six", "1.0", wheel))
    assert [file["yanked"] for file in page(yanked)["files"]] == ["broken", "broken"]
    assert page(SIX.then(Yanked("six", "1.0")))["files"][0]["yanked"] is True


def test_a_project_may_come_back_under_another_spelling():
    back = SIX.then(Removed("six")).then(Created("SIX"))
    assert list(back.serials()) == [("SIX", 5)]
    assert page(back)["versions"] == []


def test_the_page_of_an_earlier_serial_is_as_it_was_then():
    later = SIX.then(ReleaseRemoved("six", "1.0"))
    assert page(later, 3) == page(SIX)
    assert page(later, 0) is None
    assert page(later, 99) == page(later)


def test_a_file_that_is_gone_is_still_served():
    gone = SIX.then(FileRemoved("six", "1.0", "six-1.0.tar.gz"))
    assert page(gone)["files"] == []
    assert gone.content("six-1.0.tar.gz") == b"old"


@pytest.mark.parametrize(
    "event",
    [
        Created("Six"),
        Removed("seven"),
        Released("six", "1.0"),
        FileAdded("six", "2.0", File("six-2.0.tar.gz")),
        FileRemoved("six", "1.0", "six-1.0.zip"),
        ReleaseRemoved("six", "2.0"),
        Yanked("six", "2.0"),
        Cleared("six"),
    ],
)
def test_what_cannot_happen_does_not(event):
    with pytest.raises(Impossible):
        SIX.then(event)


def test_a_filename_is_never_used_again():
    gone = SIX.then(FileRemoved("six", "1.0", "six-1.0.tar.gz"))
    with pytest.raises(Impossible):
        gone.then(FileAdded("six", "1.0", File("six-1.0.tar.gz", b"new")))


@given(histories())
def test_the_journal_ascends_and_ends_with_the_last_serial(history):
    serials = [row[4] for row in history.rows(0)]
    assert serials == sorted(set(serials))
    assert history.last_serial() == (serials[-1] if serials else 0)


@given(histories(), st.data())
def test_the_journal_goes_on_after_any_serial(history, data):
    rows = list(history.rows(0))
    serial = data.draw(st.integers(0, history.last_serial()))
    assert list(history.rows(serial)) == [row for row in rows if row[4] > serial]


@given(histories())
def test_a_project_has_the_serial_of_the_last_row_about_it(history):
    last = {canonicalize_name(row[0]): row[4] for row in history.rows(0)}
    for package, project in history.projects().items():
        assert project.serial == last[package]
        assert history.page(package, "")["meta"]["_last-serial"] == last[package]


@given(histories())
def test_a_page_without_a_newer_row_has_changed_its_status_at_most(history):
    for before, entry in pairwise(history.entries):
        if action_of(entry.event) is None:
            package = canonicalize_name(entry.event.name)
            assert entry.projects[package].releases == before.projects[package].releases


@given(histories())
def test_any_page_is_one_that_the_farm_can_read(history):
    for package in history.projects():
        body = json.dumps(history.page(package, "https://files/")).encode()
        found = read_page(
            package, parse_page(package, "https://index/", {"Content-Type": JSON}, body)
        )
        assert found.serial == history.projects()[package].serial
        assert found.status == history.projects()[package].status


def test_generated_pages_agree_with_list_and_journal():
    generated = Generated(200)
    for _ in range(50):
        generated.release()
    rows = list(generated.rows(0))
    last = {row[0]: row[4] for row in rows}
    assert [row[4] for row in rows] == sorted({row[4] for row in rows})
    assert rows[-1][4] == generated.last_serial()
    assert dict(generated.serials()) == last
    for name, serial in last.items():
        found = generated.page(canonicalize_name(name), "https://files/")
        released = [row[1] for row in rows if row[0] == name and row[3] == "new release"]
        assert (found["meta"]["_last-serial"], found["versions"]) == (serial, released)
        assert all(re.search("-1[.][0-9]+[-.]", file["filename"]) for file in found["files"])


@given(st.integers(0, 12 * SERIALS))
def test_a_generated_journal_goes_on_after_any_serial(serial):
    generated = Generated(10)
    generated.release()
    assert list(generated.rows(serial)) == [row for row in generated.rows(0) if row[4] > serial]


def test_there_are_no_generated_projects_beyond_their_number():
    assert Generated(10).page("generated-0000009", "") is not None
    assert Generated(10).page("generated-0000010", "") is None
    assert Generated(10).page("six", "") is None
