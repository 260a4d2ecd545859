"""piw-target and the admin service: targets come, go and change; the queue follows."""

import json
import sys
from dataclasses import replace

import pytest

from piwheels.protocol.admin import (
    AddTarget,
    Changed,
    ChangeTargets,
    Failed,
    ListTargets,
    SkipOnTarget,
)
from piwheels.slave.interpreter import probe

NAME = "cp311-linux_armv7l"
NEW = AddTarget("cp313-linux_armv7l", "CPython 3.13", "3.13.1", ("cp313-cp313-linux_armv7l",))


@pytest.fixture
def target(operated):
    return operated.target(NAME)


def test_each_target_is_listed_with_what_waits_for_it(operated, target):
    operated.slave("pi", target, mebibytes=512)
    operated.slave("large", target, mebibytes=2048)
    operated.version("six", lane=0)
    operated.version("numpy", lane=2)
    (listed,) = operated.ask(ListTargets()).targets
    assert (listed.name, listed.is_active, listed.slaves) == (NAME, True, 2)
    assert listed.largest == 2048 * 1024**2
    assert (listed.ready, listed.later) == (2, 0)
    assert [(lane.lane, lane.ready) for lane in listed.lanes] == [(0, 1), (2, 1)]


def test_a_retry_that_is_put_off_is_listed_as_later(operated, target):
    slave = operated.slave("pi", target)
    operated.build(operated.version("six"), target, slave, kind="fetch failed")
    (listed,) = operated.ask(ListTargets()).targets
    assert (listed.ready, listed.later) == (0, 1)


def test_what_a_new_target_can_build_waits_for_it_soon(operated, target):
    operated.version("native", pypi_tag_set_id=_windows_only(operated))
    assert operated.ask(NEW) == Changed((NEW.name,))
    operated.keep()
    ((number,),) = operated.execute("SELECT target_id FROM targets WHERE name = :n", n=NEW.name)
    assert ("native", "1.0", number) in operated.waiting()


def _windows_only(operated):
    """The number of a set of tags that shows native code: all targets may build at once."""
    ((number,),) = operated.execute(
        "INSERT INTO tag_sets (tags) VALUES ('{cp311-cp311-win32}') RETURNING tag_set_id"
    )
    return number


def test_a_target_is_added_only_once(operated, target):
    operated.ask(NEW)
    again = operated.ask(NEW)
    assert isinstance(again, Failed)
    assert "already" in again.reason


def test_a_new_target_is_ranked_by_its_python_and_may_begin_inactive(operated):
    operated.ask(replace(NEW, is_active=False))
    (listed,) = operated.ask(ListTargets()).targets
    assert (listed.rank, listed.is_active) == (31300, False)


def test_a_dry_run_says_the_same_and_changes_nothing(operated, target):
    operated.keep()
    request = ChangeTargets((NAME,), is_active=False, is_dry_run=True)
    assert operated.ask(request).names == (NAME,)
    assert operated.execute("SELECT active FROM targets") == [(True,)]
    assert operated.execute("SELECT 1 FROM rejudge") == []


def test_a_deactivated_target_drops_what_waits_and_takes_it_up_again(operated, target):
    operated.version("six")
    operated.keep()
    before = operated.waiting()
    dropped = operated.ask(ChangeTargets((NAME,), is_active=False))
    assert (dropped.names, dropped.waiting) == ((NAME,), 1)
    operated.keep()
    assert operated.waiting() == []
    assert operated.ask(ChangeTargets((NAME,), is_active=True)).names == (NAME,)
    operated.keep()
    assert operated.waiting() == before


def test_a_target_that_is_activated_and_deactivated_at_once_leaves_the_queue_as_it_was(
    operated, target
):
    operated.version("six")
    before = operated.waiting()
    operated.ask(ChangeTargets((NAME,), is_active=False))
    operated.ask(ChangeTargets((NAME,), is_active=True))
    operated.keep()
    assert operated.waiting() == before


def test_what_is_so_already_is_no_news_and_judges_nothing_again(operated, target):
    operated.keep()
    assert operated.ask(ChangeTargets((NAME,), is_active=True, rank=1)).names == ()
    assert operated.execute("SELECT 1 FROM rejudge") == []


def test_the_lowest_rank_tries_first(operated, target):
    other = operated.target("cp39-linux_armv7l", rank=2)
    operated.version("six")
    operated.keep()
    assert operated.waiting() == [("six", "1.0", target)]
    operated.ask(ChangeTargets((NAME,), rank=3))
    operated.keep()
    assert operated.waiting() == [("six", "1.0", other)]


def test_either_all_targets_that_are_named_change_or_none(operated, target):
    answer = operated.ask(ChangeTargets((NAME, "cp311-linux_armv7"), is_active=False))
    assert isinstance(answer, Failed)
    assert NAME in answer.hint
    assert operated.execute("SELECT active FROM targets") == [(True,)]


def test_what_is_skipped_on_a_target_waits_there_no_more(operated, target):
    other = operated.target("cp39-linux_armv7l", rank=2)
    operated.version("six", "1.0")
    operated.version("six", "2.0")
    skip = SkipOnTarget(NAME, "six", "1.0", "hangs there")
    assert operated.ask(skip) == Changed(("six 1.0",))
    assert operated.waiting() == [("six", "1.0", other), ("six", "2.0", target)]
    assert operated.ask(skip) == Changed(())
    assert operated.ask(SkipOnTarget(NAME, "Six", "", "hangs there")) == Changed(("six",))
    assert {row[2] for row in operated.waiting()} == {other}
    operated.ask(SkipOnTarget(NAME, "six", "1.0"))
    operated.ask(SkipOnTarget(NAME, "six"))
    assert {row[2] for row in operated.waiting()} == {target}


def test_a_skip_of_a_package_with_many_versions_is_left_to_the_keeper(operated, target):
    package = operated.version("many", "0.0")
    operated.execute(
        "INSERT INTO versions (package_id, version, lane, sdist_name, sdist_sha256)"
        " SELECT package_id, number || '.1', 1, 'x', 'x'"
        " FROM versions, generate_series(1, 300) AS number WHERE version_id = :v",
        v=package,
    )
    operated.execute("INSERT INTO rejudge SELECT version_id, version_id FROM versions")
    operated.keep()
    assert len(operated.waiting()) == 301
    operated.ask(SkipOnTarget(NAME, "many", "", "too many"))
    assert operated.execute("SELECT count(*) FROM rejudge") == [(301,)]
    operated.keep()
    assert operated.waiting() == []


@pytest.mark.parametrize(
    ("package", "version", "hint"),
    [("sux", "", "six"), ("six", "1.1", "1.0"), ("unheard-of", "", "piw-add unheard-of")],
)
def test_what_is_not_there_is_not_skipped_and_the_next_step_is_said(
    operated, target, package, version, hint
):
    operated.version("six", "1.0")
    answer = operated.ask(SkipOnTarget(NAME, package, version, "no"))
    assert isinstance(answer, Failed)
    assert hint in answer.hint
    assert operated.execute("SELECT 1 FROM skips") == []


# The command


def test_piw_target_lists_what_people_can_read(operated, target):
    operated.slave("pi", target, mebibytes=512)
    operated.version("six")
    listed = operated.run("target", "list")
    head, row = listed.stdout.splitlines()
    assert head.split()[:2] == ["target", "label"]
    assert row.split() == [NAME, "3.11.2", "1", "yes", "1", "512", "MiB", "1", "0"]
    assert max(map(len, (head, row))) <= 100


def test_piw_target_lists_lanes_in_json(operated, target):
    operated.version("six", lane=2)
    answer = json.loads(operated.run("target", "list", "--json").stdout)
    (listed,) = answer["targets"]
    assert listed["lanes"] == [{"lane": 2, "ready": 1, "later": 0}]


def test_piw_target_without_targets_says_where_they_come_from(operated):
    assert "a slave that comes" in operated.run("target", "list").stdout


def test_piw_target_asks_an_interpreter_for_its_tags(operated):
    offer = probe(sys.executable).offer
    done = operated.run("target", "add", offer.name, "--tags-from", sys.executable)
    assert (done.returncode, done.stderr) == (0, "")
    ((tags,),) = operated.execute("SELECT tags FROM targets JOIN tag_sets USING (tag_set_id)")
    assert set(tags) == set(offer.tags)


def test_piw_target_takes_no_tags_of_another_target(operated):
    done = operated.run("target", "add", NAME, "--tags-from", sys.executable)
    assert (done.returncode, operated.execute("SELECT 1 FROM targets")) == (2, [])
    assert probe(sys.executable).name in done.stderr


def test_piw_target_reads_tags_from_a_file(operated, tmp_path):
    file = tmp_path / "tags"
    file.write_text(f"cp311-{NAME}\npy3-none-any\n")
    words = ("add", NAME, "--tags", str(file), "--python", "3.11.2", "--inactive")
    assert operated.run("target", *words).stdout == f"{NAME}: is a target now\n"
    assert operated.execute("SELECT name, active, rank FROM targets") == [(NAME, False, 31100)]


def test_piw_target_deactivates_only_if_it_is_sure(operated, target):
    operated.version("six")
    doubtful = operated.run("target", "deactivate", NAME)
    assert doubtful.returncode == 2
    assert "drop 1 build" in doubtful.stderr
    assert operated.execute("SELECT active FROM targets") == [(True,)]
    sure = operated.run("target", "deactivate", NAME, "--yes")
    assert "1 build dropped" in sure.stdout
    assert operated.execute("SELECT active FROM targets") == [(False,)]


def test_piw_target_skips_with_a_reason(operated, target):
    operated.version("six")
    done = operated.run("target", "skip", NAME, "six", "--reason", "hangs there")
    assert done.stdout == f"six: not built on {NAME}: hangs there\n"
    assert operated.run("target", "unskip", NAME, "six").stdout.endswith("again\n")
    assert operated.run("target", "unskip", NAME, "six").stdout == "nothing to change\n"


def test_piw_target_fails_with_one_line_that_names_the_nearest(operated, target):
    done = operated.run("target", "rank", "cp311-linux_armv7", "5")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert f"did you mean {NAME}?" in done.stderr
