"""The queue's one rule."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from piwheels.model.builds import FailureClass
from piwheels.model.queue import AT_ONCE, FailedBuild, State, Version
from piwheels.model.targets import Target
from piwheels.rules.queue import verdicts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def target(number, rank=None, active=True, platform="linux_armv7l"):
    tags = {
        f"cp3{number}-cp3{number}-{platform}",
        *(f"cp3{older}-abi3-{platform}" for older in range(2, number + 1)),
        f"py3-none-{platform}",
        "py3-none-any",
    }
    return Target(
        number, f"cp3{number}-{platform}", f"3.{number}.1", rank or number, active, frozenset(tags)
    )


CP9, CP11, CP13 = target(9), target(11), target(13)
ALL = [CP9, CP11, CP13]


def states(version, targets=ALL):
    return {number: verdict.state for number, verdict in verdicts(version, targets).items()}


def waiting(version, targets=ALL):
    return {number for number, state in states(version, targets).items() if state is State.WAITING}


def failed(kind, build_id=1):
    return FailedBuild(build_id, kind, NOON)


def test_of_an_unknown_version_only_the_lowest_ranked_target_waits():
    assert waiting(Version()) == {9}


def test_ranks_are_numbers_not_names():
    assert waiting(Version(), [target(9, rank=300), target(11, rank=20)]) == {11}


def test_while_the_first_target_builds_the_others_stay_back():
    assert waiting(Version(building=frozenset({9}))) == set()


def test_a_pure_wheel_is_built_once():
    assert waiting(Version(file_tags=frozenset({"py3-none-any"}))) == set()
    assert set(states(Version(file_tags=frozenset({"py3-none-any"}))).values()) == {State.DONE}


def test_after_a_native_wheel_all_other_targets_wait_at_once():
    assert waiting(Version(file_tags=frozenset({"cp39-cp39-linux_armv7l"}))) == {11, 13}


def test_a_stable_abi_wheel_does_for_every_newer_python():
    assert waiting(Version(file_tags=frozenset({"cp311-abi3-linux_armv7l"}))) == {9}


def test_pypis_wheels_may_show_that_a_version_is_native():
    tags = frozenset({"cp311-cp311-manylinux_2_17_x86_64"})
    assert waiting(Version(pypi_tags=tags)) == {9, 11, 13}


def test_a_pure_wheel_on_pypi_shows_that_one_build_may_do():
    assert waiting(Version(pypi_tags=frozenset({"py3-none-any"}))) == {9}


def test_under_policy_missing_a_wheel_on_pypi_is_enough():
    version = Version(policy="missing", pypi_tags=frozenset({"cp311-cp311-linux_armv7l"}))
    assert waiting(version) == {9, 13}


def test_after_a_final_failure_the_next_in_rank_waits():
    version = Version(failures={9: [failed(FailureClass.SOURCE_ERROR)]})
    assert states(version) == {9: State.FAILED, 11: State.WAITING, 13: State.DEFERRED}


def test_a_passing_failure_waits_for_its_time():
    version = Version(failures={9: [failed(FailureClass.FETCH_FAILED)]})
    verdict = verdicts(version, ALL)[9]
    assert verdict.state is State.WAITING
    assert verdict.not_before > NOON
    assert verdict.attempts == 1


def test_attempts_of_one_class_do_not_use_up_those_of_another():
    other = [failed(FailureClass.SLAVE_LOST, number) for number in range(5)]
    version = Version(failures={9: [*other, failed(FailureClass.FETCH_FAILED, 9)]})
    assert verdicts(version, ALL)[9].not_before < NOON + timedelta(hours=1)


def test_what_an_operator_must_see_is_held():
    version = Version(failures={9: [failed(FailureClass.DEGRADED_WHEEL)]})
    assert states(version)[9] is State.HELD


def test_requires_python_is_honoured_before_anything_is_built():
    assert states(Version(requires_python=">=3.10")) == {
        9: State.UNSUPPORTED,
        11: State.WAITING,
        13: State.DEFERRED,
    }


def test_a_requires_python_that_nobody_can_read_excludes_nobody():
    assert waiting(Version(requires_python=">=3.6.*,oops")) == {9}


def test_nothing_waits_on_an_inactive_target():
    assert 9 not in verdicts(Version(), [target(9, active=False), CP11])


def test_a_skipped_version_waits_nowhere():
    assert waiting(Version(skip="spam")) == set()


def test_a_version_skipped_on_one_target_waits_on_the_next():
    assert waiting(Version(target_skips={9: "no memory"})) == {11}


def test_without_an_sdist_nothing_waits():
    assert waiting(Version(has_sdist=False)) == set()


def test_what_nobody_asked_for_does_not_wait():
    assert waiting(Version(lane=None)) == set()


TAGS = st.frozensets(
    st.sampled_from(
        ["py3-none-any", "cp39-cp39-linux_armv7l", "cp311-abi3-linux_armv7l", "cp313-none-any"]
    ),
    max_size=2,
)
FAILURES = st.dictionaries(
    st.sampled_from([9, 11, 13]),
    st.lists(st.builds(FailedBuild, st.integers(1), st.sampled_from(FailureClass), st.just(NOON))),
)
VERSIONS = st.builds(
    Version,
    lane=st.sampled_from([None, 0, 1, 2]),
    skip=st.sampled_from(["", "spam"]),
    has_sdist=st.booleans(),
    requires_python=st.sampled_from(["", ">=3.11", "<3"]),
    policy=st.sampled_from(["all", "missing"]),
    pypi_tags=TAGS,
    file_tags=TAGS,
    failures=FAILURES,
    building=st.frozensets(st.sampled_from([9, 11, 13])),
)


@given(VERSIONS)
def test_what_waits_is_wanted_uncovered_and_not_building(version):
    for number in waiting(version):
        covered = {each.target_id: each.tags for each in ALL}[number]
        assert version.lane is not None
        assert version.has_sdist
        assert not version.skip
        assert number not in version.building
        assert not version.file_tags & covered


@given(VERSIONS)
def test_the_order_in_which_targets_are_given_does_not_matter(version):
    assert verdicts(version, ALL) == verdicts(version, ALL[::-1])


@given(VERSIONS)
def test_only_a_retry_has_a_time_to_wait_for(version):
    for verdict in verdicts(version, ALL).values():
        if verdict.not_before != AT_ONCE:
            assert verdict.state is State.WAITING
            assert verdict.attempts > 0
