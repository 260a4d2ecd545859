"""piw-why and the admin service: why a version stands as it does, case by case."""

import json
import re

import pytest

from piwheels.protocol.admin import Failed, Look, Why

NAME = "cp311-linux_armv7l"


@pytest.fixture
def target(operated):
    return operated.target(NAME)


@pytest.fixture
def slave(operated, target):
    return operated.slave("pi", target, mebibytes=2048)


@pytest.fixture
def why(operated):
    """How the newest version of six stands on its one target."""

    def why(*request, **details):
        (standing,) = operated.ask(Why("six", *request, **details)).standings
        return standing

    return why


def test_what_is_done_is_told_with_its_file(operated, target, slave, why):
    version = operated.version("six")
    build = operated.build(version, target, slave)
    operated.file(version, build, "six-1.0-py3-none-any.whl", "py3-none-any")
    found = why()
    assert (found.state, found.files) == ("done", ("six-1.0-py3-none-any.whl",))
    assert found.words.startswith("six-1.0-py3-none-any.whl, published less than a minute ago")


def test_what_is_built_is_told_with_its_slave_and_its_expected_end(operated, target, slave, why):
    version = operated.version("six")
    operated.execute(
        "INSERT INTO costs (package_id, target_id, seconds, peak_memory, size)"
        " SELECT package_id, :target, 1200, 0, 0 FROM packages",
        target=target,
    )
    operated.lease(version, target, slave, minutes=5)
    found = why()
    assert found.state == "building"
    assert (found.building.slave, found.building.phase) == ("pi", "building")
    assert (found.building.until - found.building.since).total_seconds() == 1200
    assert found.words == "pi is building, since 5 min; should end in 15 min"


def test_how_long_a_first_build_takes_is_said_to_be_unknown(operated, target, slave, why):
    operated.lease(operated.version("six"), target, slave)
    found = why()
    assert found.building.until is None
    assert found.words.endswith("how long it takes is not known")


def test_the_place_in_the_queue_honours_lanes_popularity_and_age(operated, target, slave, why):
    for name, lane, popularity in (
        ("manual", 0, 0),
        ("popular", 1, 9),
        ("less-popular", 1, 1),
        ("backlog", 2, 9),
    ):
        operated.version(name, lane=None)
        operated.execute(
            "UPDATE packages SET popularity = :popularity WHERE name = :name",
            name=name,
            popularity=popularity,
        )
        operated.execute("UPDATE versions SET lane = :lane WHERE lane IS NULL", lane=lane)
    operated.version("six", lane=1, released="2024-01-02")
    operated.execute("UPDATE packages SET popularity = 1 WHERE name = 'six'")
    operated.version("newer", lane=1, released="2024-01-03")
    operated.execute("UPDATE packages SET popularity = 1 WHERE name = 'newer'")
    operated.refresh(*(row[0] for row in operated.execute("SELECT version_id FROM versions")))
    found = why()
    assert found.waiting.lane == "new releases"
    assert found.waiting.ahead == 3  # manual, popular, newer; not less-popular, that is older
    assert found.words.startswith("waits among new releases, behind 3 builds;")


def test_places_are_counted_over_all_sizes(operated, target, slave, why):
    operated.version("six", released="2024-01-02")
    operated.version("large", released="2024-01-03")
    operated.execute(
        "UPDATE queue SET size = 2 FROM versions JOIN packages USING (package_id)"
        " WHERE versions.version_id = queue.version_id AND name = 'large'"
    )
    assert why().waiting.ahead == 1


def test_the_start_is_estimated_from_the_pace_of_the_slaves_at_work(operated, target, slave, why):
    other = operated.slave("pi-2", target)
    for number in range(4):
        built = operated.version("built", f"{number}.0", lane=None)
        operated.build(built, target, slave, minutes=10)
    for each, name in ((slave, "one"), (other, "two")):
        operated.lease(operated.version(name), target, each)
    for name in ("a", "b", "c"):
        operated.version(name, lane=0)
    operated.version("six")
    found = why()
    # Three come first and two slaves build, each ten minutes: a turn every five, four turns.
    assert found.waiting.ahead == 3
    assert found.words.endswith("should begin in 20 min")


def test_with_a_free_slave_the_first_begins_at_once(operated, target, slave, why):
    operated.build(operated.version("built"), target, slave)
    operated.version("six")
    operated.execute(
        "DELETE FROM queue USING versions JOIN packages USING (package_id)"
        " WHERE queue.version_id = versions.version_id AND name = 'built'"
    )
    assert why().words == "waits among new releases, as the first in line; should begin at once"


def test_where_nothing_was_built_lately_no_start_is_made_up(operated, target, slave, why):
    operated.version("six")
    found = why()
    assert found.waiting.begins is None
    assert "not known" in found.words


def test_a_retry_is_told_with_its_time_and_its_cause(operated, target, slave, why):
    version = operated.version("six")
    operated.build(version, target, slave, kind="fetch failed", cause="no route", log="logs/1")
    found = why()
    assert (found.state, found.attempts, found.cause) == ("waiting", 1, "no route")
    assert found.waiting.not_before is not None
    assert re.match(r"tried again in [23] min, after 1 attempt$", found.words)
    assert found.log == "logs/1"


def test_the_other_target_that_tries_first_is_named(operated, target, slave):
    operated.target("cp313-linux_armv7l", rank=2)
    operated.version("six")
    _, second = operated.ask(Why("six")).standings
    assert (second.state, second.words.partition(":")[0]) == ("deferred", f"{NAME} tries first")


def test_a_failure_is_told_with_class_cause_fix_log_and_the_next_step(operated, target, slave, why):
    version = operated.version("six")
    operated.build(
        version,
        target,
        slave,
        kind="missing header or tool",
        cause="foo.h: not found",
        fix="apt install libfoo-dev",
        log="logs/2",
    )
    found = why()
    assert (found.state, found.kind) == ("failed", "missing header or tool")
    assert (found.cause, found.fix) == ("foo.h: not found", "apt install libfoo-dev")
    assert (found.log, found.attempts) == ("logs/2", 1)
    assert "piw-add six 1.0" in found.next_step


def test_a_past_failure_stands_in_nobodys_way(operated, target, slave, why):
    version = operated.version("six")
    operated.build(version, target, slave, kind="compile or source error", cause="syntax")
    operated.execute("UPDATE versions SET past = (SELECT max(build_id) FROM builds)")
    operated.refresh(version)
    found = why()
    assert (found.state, found.cause, found.attempts) == ("waiting", "", 0)


@pytest.mark.parametrize(
    ("change", "words", "step"),
    [
        ("UPDATE packages SET skip = 'spam'", "spam", "piw-add six --unskip"),
        ("UPDATE versions SET skip = 'broken'", "broken", "piw-add six 1.0 --unskip"),
        (
            "INSERT INTO skips SELECT package_id, version_id, 1, 'hangs' FROM versions",
            "hangs",
            f"piw-target unskip {NAME} six 1.0",
        ),
        (
            "INSERT INTO skips SELECT package_id, NULL, 1, 'hangs' FROM versions",
            "hangs",
            f"piw-target unskip {NAME} six",
        ),
        ("UPDATE versions SET yanked = 'oops'", "yanked: oops", "piw-add six 1.0"),
    ],
)
def test_a_skip_is_told_with_its_reason_and_the_command_that_undoes_it(
    operated, target, slave, why, change, words, step
):
    version = operated.version("six")
    operated.execute(change)
    operated.refresh(version)
    found = why()
    assert (found.state, found.words) == ("skipped", words)
    assert found.next_step.endswith(step)


@pytest.mark.parametrize(
    ("details", "state", "words"),
    [
        ({"requires_python": ">=3.12"}, "unsupported", "requires Python >=3.12"),
        ({"sdist_name": ""}, "no sdist", "PyPI has no source"),
        ({"lane": None}, "unwanted", "nobody asked"),
    ],
)
def test_what_cannot_wait_is_told_with_its_reason(
    operated, target, slave, why, details, state, words
):
    operated.version("six", **details)
    found = why()
    assert found.state == state
    assert found.words.startswith(words)


@pytest.mark.parametrize(
    ("change", "obstacle", "step"),
    [
        ("UPDATE slaves SET present = false", "no slave of this target is here", "piw-slave"),
        ("UPDATE slaves SET wish = 'rest'", "pi is paused", "piw-slaves resume pi"),
        ("UPDATE slaves SET quarantined = '2999-01-01'", "quarantined until", "forgive pi"),
        ("UPDATE slaves SET unfit = 'its disk is full'", "its disk is full", "mend pi"),
        ("UPDATE slaves SET last_seen = now() - interval '1 h'", "silent since", "whether pi"),
        ("UPDATE queue SET size = 4", "needs a slave with 4 GiB of memory, and the largest here"
         " has 2 GiB", "larger slave"),
    ],
)  # fmt: skip
def test_why_no_slave_can_take_what_waits_is_said(
    operated, target, slave, why, change, obstacle, step
):
    operated.version("six")
    operated.execute(change)
    found = why()
    assert found.state == "waiting"
    assert obstacle in found.waiting.obstacle
    assert obstacle in found.words
    assert found.waiting.begins is None
    assert step in found.next_step


def test_one_slave_that_works_is_enough(operated, target, slave, why):
    operated.slave("other", target)
    operated.version("six")
    operated.execute("UPDATE slaves SET wish = 'rest' WHERE label = 'pi'")
    assert why().waiting.obstacle == ""


def test_the_newest_version_that_was_asked_for_is_told_and_a_line_for_each_other(
    operated, target, slave
):
    for version, lane in (("1.0", 1), ("2.0", None), ("1.10", 1), ("1.9", 1)):
        operated.version("six", version, lane)
    answer = operated.ask(Why("six", most=2))
    assert answer.version == "1.10"
    assert [(each.version, each.states) for each in answer.others] == [
        ("2.0", {"unwanted": 1}),
        ("1.9", {"waiting": 1}),
    ]
    assert answer.unshown == 1


def test_any_spelling_of_the_package_and_the_version_will_do(operated, target, slave):
    operated.version("zope-interface", "5.0")
    operated.execute(
        "INSERT INTO package_names (name, package_id) SELECT 'zi', package_id FROM packages"
    )
    for package, version in (("Zope.Interface", "5.0"), ("zi", "5"), ("zope-interface", "")):
        assert operated.ask(Why(package, version)).version == "5.0"


@pytest.mark.parametrize(
    ("request_", "hint"),
    [
        (Why("sixx"), "did you mean six? Else ask for it with piw-add sixx"),
        (Why("xis"), "ask for it with piw-add xis"),
        (Why("six", "1.1"), "did you mean 1.0? Else ask for it with piw-add six 1.1"),
        (Why("six", target="cp311-linux_armv6l"), f"did you mean {NAME}"),
        (Why("six", target="cp39-linux_armv7l"), "say piw-target activate cp39-linux_armv7l"),
        (Why("*"), "use letters, digits, '-', '_' and '.'"),
    ],
)
def test_what_is_not_known_is_answered_with_the_nearest_and_the_next_step(
    operated, target, request_, hint
):
    operated.target("cp39-linux_armv7l")
    operated.execute("UPDATE targets SET active = false WHERE name LIKE 'cp39%'")
    operated.version("six")
    answer = operated.ask(request_)
    assert isinstance(answer, Failed)
    assert answer.hint.startswith(hint)


def test_one_target_can_be_asked_for(operated, target, slave):
    operated.target("cp313-linux_armv7l", rank=2)
    operated.version("six")
    (standing,) = operated.ask(Why("six", target="cp313-linux_armv7l")).standings
    assert standing.target == "cp313-linux_armv7l"


def test_a_tool_that_looks_gets_the_same_standings(operated, target, slave):
    operated.version("six")
    (looked,) = operated.ask(Look("six", "1.0")).standings
    assert looked.state == "waiting"
    assert operated.ask(Look("six", "2.0")).standings == ()
    assert operated.ask(Look("seven", "1.0")).standings == ()


# The command


def test_piw_why_prints_what_people_can_read(operated, target, slave):
    version = operated.version("six", released="2024-12-04")
    operated.version("six", "0.9")
    operated.build(
        version,
        target,
        slave,
        kind="missing header or tool",
        cause="foo.h: not found " + "and so on " * 10,
        fix="apt install libfoo-dev",
        log="logs/0000/0000/0001.txt.gz",
    )
    done = operated.run("why", "six")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0] == "six 1.0, released 2024-12-04"
    assert lines[1].startswith(f"  {NAME}  failed: missing header or tool, less than a minute ago")
    assert [line.split()[0] for line in lines if line.startswith("      ") and line[6] != " "] == [
        *("cause", "fix", "next", "log")
    ]
    assert lines[-1].split() == ["0.9", "waiting"]
    assert max(map(len, lines)) <= 100


def test_piw_why_answers_in_json(operated, target, slave):
    operated.version("six")
    answer = json.loads(operated.run("why", "six", "--json").stdout)
    assert answer["standings"][0]["waiting"]["ahead"] == 0


def test_piw_why_of_a_package_that_nobody_knows_fails_with_the_next_step(operated):
    done = operated.run("why", "six")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "piw-add six" in done.stderr


def test_piw_why_without_targets_says_so(operated):
    operated.version("six")
    assert "no target is active" in operated.run("why", "six").stdout
