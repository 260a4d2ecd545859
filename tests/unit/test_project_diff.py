from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.model.builds import Sdist
from piwheels.model.projects import ProjectPage, ProjectVersion
from piwheels.rules.project_diff import (
    REMOVED,
    BadSpecifier,
    NoSdist,
    NoSuchVersion,
    admitted,
    choose,
    diff,
    withdrawn,
)

SDIST = Sdist("six-1.0.tar.gz", "https://files.example/six-1.0.tar.gz", "0" * 64, 10)


def release(version, **details):
    return ProjectVersion(version, **{"sdist": SDIST, **details})


def wheels_only(version):
    return release(version, sdist=None, tags=frozenset({"py3-none-any"}))


def page(*versions):
    return ProjectPage("six", "six", versions)


NUMBERS = st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["", "a1", "rc2"]))
RELEASES = NUMBERS.map(lambda number: f"{number[0]}.{number[1]}{number[2]}").flatmap(
    lambda name: st.builds(
        ProjectVersion,
        st.just(name),
        sdist=st.sampled_from([SDIST, None]),
        yanked=st.sampled_from([None, "", "broken"]),
        requires_python=st.sampled_from(["", ">=3.12", "what"]),
        tags=st.sampled_from([frozenset(), frozenset({"py3-none-any"})]),
    )
)
PAGES = st.lists(RELEASES, unique_by=lambda version: version.version).map(
    lambda versions: page(*versions)
)


def known_from(some_page):
    return {version.version: version for version in some_page.versions}


def after(known, changes):
    return known | {version.version: version for version in changes.versions}


@given(PAGES, PAGES)
def test_a_page_written_down_differs_from_itself_in_nothing(before, now):
    known = known_from(before)
    assert diff(after(known, diff(known, now)), now).versions == ()


@given(PAGES, PAGES)
def test_after_a_diff_every_version_of_the_page_is_known_as_the_page_has_it(before, now):
    known = known_from(before)
    assert known_from(now).items() <= after(known, diff(known, now)).items()


@given(PAGES, PAGES)
def test_every_version_is_new_or_changed_or_gone_at_most_once(before, now):
    changes = diff(known_from(before), now)
    names = [version.version for version in changes.versions]
    assert len(names) == len(set(names))


@given(PAGES, PAGES)
def test_nothing_that_the_page_lacks_can_be_built_afterwards(before, now):
    known = known_from(before)
    lost = after(known, diff(known, now)).keys() - known_from(now).keys()
    assert all(after(known, diff(known, now))[name].sdist is None for name in lost)


def test_a_version_that_pypi_removed_is_yanked_for_all_who_did_not_pin_it():
    changes = diff({"1.0": release("1.0")}, page())
    assert [version.yanked for version in changes.gone] == [REMOVED]


def test_a_version_that_comes_back_is_as_it_was():
    known = {"1.0": withdrawn(release("1.0"))}
    assert diff(known, page(release("1.0"))).changed == (release("1.0"),)


def test_a_yank_is_a_change():
    yanked = replace(release("1.0"), yanked="")
    assert diff({"1.0": release("1.0")}, page(yanked)).changed == (yanked,)


@given(PAGES, st.sampled_from(["", "==1.0", ">=1", "<2,!=1.1", "==2.*", "===1.0", "~=1.1"]))
def test_what_is_chosen_is_admitted_and_can_be_built(some_page, specifier):
    try:
        chosen = choose(some_page, specifier)
    except (NoSuchVersion, NoSdist):
        return
    assert chosen in admitted(some_page, specifier)
    assert chosen.sdist is not None


def test_the_newest_version_is_chosen_by_number_not_by_spelling():
    assert choose(page(release("1.9"), release("1.10"))).version == "1.10"


def test_the_newest_version_with_an_sdist_is_chosen():
    assert choose(page(wheels_only("2.0"), release("1.0"))).version == "1.0"


def test_a_pre_release_is_chosen_only_if_there_is_nothing_else():
    assert choose(page(release("2.0rc1"), release("1.0"))).version == "1.0"
    assert choose(page(release("2.0rc1"))).version == "2.0rc1"


def test_a_pre_release_is_chosen_if_the_specifier_names_one():
    assert choose(page(release("2.0rc1"), release("1.0")), ">=2.0rc1").version == "2.0rc1"


def test_a_pre_release_is_not_chosen_because_the_final_one_has_only_wheels():
    with pytest.raises(NoSdist, match=r"newest version with an sdist is 2\.0rc1"):
        choose(page(release("2.0rc1"), wheels_only("1.0")))


def test_a_yanked_version_is_not_chosen():
    assert choose(page(release("2.0", yanked=""), release("1.0"))).version == "1.0"


@pytest.mark.parametrize("pin", ["==2.0", "===2.0", "==2.0.0"])
def test_a_yanked_version_is_chosen_if_it_is_pinned(pin):
    if pin == "===2.0":
        assert choose(page(release("2.0", yanked="")), pin).version == "2.0"
    else:
        assert choose(page(release("2.0", yanked=""), release("1.0")), pin).version == "2.0"


def test_a_yanked_version_is_not_chosen_for_a_prefix():
    with pytest.raises(NoSuchVersion, match=r"six==2\.0"):
        choose(page(release("2.0", yanked="oops"), release("1.0")), "==2.*")


def test_a_version_that_some_python_can_run_goes_before_a_newer_one_that_none_can():
    newer = release("2.0", requires_python=">=3.12")
    assert choose(page(newer, release("1.0")), pythons={"3.11.2"}).version == "1.0"
    assert choose(page(newer, release("1.0")), pythons={"3.11.2", "3.13.1"}).version == "2.0"


def test_a_version_that_no_python_can_run_is_chosen_if_there_is_no_other():
    assert choose(page(release("2.0", requires_python=">=3.12")), pythons={"3.11.2"})


def test_an_unreadable_requirement_on_python_excludes_nothing():
    odd = release("2.0", requires_python="3 or so")
    assert choose(page(odd, release("1.0")), pythons={"3.11.2"}).version == "2.0"


def test_a_missing_version_is_refused_with_the_names_of_the_nearest_and_the_newest():
    versions = [release(f"1.{minor}.0") for minor in range(17)]
    with pytest.raises(NoSuchVersion, match=r"six .*==1\.5\.1 .*1\.5\.0.*1\.16\.0"):
        choose(page(*versions), "==1.5.1")


def test_a_package_without_releases_is_refused():
    with pytest.raises(NoSuchVersion, match="no release of six yet"):
        choose(page())


def test_a_version_with_wheels_only_is_refused_with_the_newest_that_has_an_sdist():
    with pytest.raises(NoSdist, match=r"only wheels of six 2\.0.*: .*1\.0$"):
        choose(page(wheels_only("2.0"), release("1.0")), ">=2")


def test_a_package_with_wheels_only_is_refused_with_the_advice_to_use_them():
    with pytest.raises(NoSdist, match=r"1\.0 to 2\.0.*: use PyPI's own$"):
        choose(page(wheels_only("2.0"), wheels_only("1.0")))


def test_a_specifier_that_is_none_is_refused():
    with pytest.raises(BadSpecifier, match=r"'=1\.0'.*==1\.16\.0"):
        choose(page(release("1.0")), "=1.0")
