"""What was said and not heard: dead lines, stopped slaves, commits whose answer is lost."""

import signal

import pytest

from piwheels.model.builds import Phase
from tests.farm.audit import end_well
from tests.farm.faults import GATED, MOMENTS, hurt_farm
from tests.farm.lines import Line

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    with hurt_farm(tmp_path_factory.mktemp("hurt")) as farm:
        yield farm


def test_no_build_notices_that_all_connections_are_reset(farm):
    scene, built = farm.strike(lambda scene: [line.cut() for line in farm.lines()])
    assert built == scene.builds
    assert {version: farm.fetches(version) for version in built} == dict.fromkeys(built, 1)


@pytest.mark.parametrize("fault", [Line.stall, Line.lose], ids=["stall", "lose_all"])
def test_results_wait_on_the_slaves_while_their_lines(fault, farm):
    scene = farm.scene()
    for line in farm.lines():
        fault(line)
    farm.finish_on_the_slaves(scene)
    farm.settle(scene.versions)


def test_a_slave_that_wakes_after_its_lease_ended_delivers_what_nobody_else_took(farm):
    scene = farm.scene(is_one_idle=False)
    for label in scene.slaves:
        farm.signal(label, signal.SIGSTOP)
    farm.let_run_out(scene.builds.values())
    farm.until(
        lambda: farm.look("SELECT count(*) FROM queue WHERE ready") == [(len(Phase),)],
        "all that the stopped slaves had waits again",
    )
    taken = scene.leases[Phase.FETCHING].version  # first in the queue, as it was before
    for filler in scene.fillers:
        farm.gates.open(filler, *GATED)
    farm.until(lambda: taken in farm.leases(), "the slave that is left took the first of them")
    for label in scene.slaves:
        farm.signal(label, signal.SIGCONT)
    farm.until(lambda: len(farm.leases()) == len(Phase), "the others have their leases back")
    built = farm.settle(scene.versions)
    elsewhere = {version for version, number in scene.builds.items() if built[version] != number}
    assert elsewhere == {taken}
    assert farm.lost(scene.versions) == 1
    assert [version for version in built if farm.fetches(version) != 1] == [taken]


@pytest.mark.parametrize(
    ("moment", "is_committed"),
    [*((moment, False) for moment in MOMENTS), ("grant", True), ("end", True)],
)
def test_a_build_is_begun_once_though_who_answers_dies_in_the_commit(moment, is_committed, farm):
    victim = "receiver" if moment == "placement" else "dispatcher"
    with farm.held_at(moment):
        version = farm.release()
        farm.gates.open(version, *GATED)
        backend = farm.await_held()
        farm.kill(victim)
        if not is_committed:
            farm.roll_back(backend)
    farm.settle([version])
    assert farm.fetches(version) == 1


def test_in_the_end_all_is_built_and_published_and_nothing_waits_or_runs(farm):
    end_well(farm)
