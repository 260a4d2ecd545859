"""Faults of every kind while builds are in every phase: each version is built, exactly once."""

import os
import random
import signal
import time
from contextlib import ExitStack
from functools import partial

import pytest

from piwheels.model.builds import Phase
from tests.farm.audit import unrest, untruths
from tests.farm.faults import GATED, HIRED, PROGRAMS, SERVICES, hurt_farm
from tests.farm.lines import Line

MOMENTS = {  # who is killed, at which statement, which a lock on that table can hold
    "grant": ("dispatcher", "INSERT INTO leases", "leases"),
    "report": ("dispatcher", "INSERT INTO uploads", "uploads"),
    "placement": ("receiver", "UPDATE uploads SET placed", "uploads"),
    "commit": ("dispatcher", "INSERT INTO builds", "builds"),
}
TRIES = 5  # for a build to be still at its inspection when the blow falls

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    with hurt_farm(tmp_path_factory.mktemp("hurt")) as farm:
        yield farm


def strike(farm, blow):
    """Let *blow* fall on a scene until it hits all phases; return the scene, and what was built."""
    for _ in range(TRIES):
        scene = farm.scene()
        blow(scene)
        is_hit = not farm.is_reported(scene.leases[Phase.INSPECTING])
        built = farm.settle(scene.versions)
        if is_hit:
            return scene, built
    raise AssertionError("inspections are too short to be hit")


def assert_unnoticed(farm, scene, built):
    """No build was given up, or begun again."""
    assert built == scene.builds
    assert {version: farm.fetches(version) for version in built} == dict.fromkeys(built, 1)


@pytest.mark.parametrize("victim", [*SERVICES, *PROGRAMS, "backend"])
def test_no_build_in_any_phase_notices_the_death_of(victim, farm):
    assert_unnoticed(farm, *strike(farm, lambda scene: farm.kill(victim)))


@pytest.mark.parametrize("moment", MOMENTS)
def test_who_dies_before_a_commit_has_not_said_that_it_is_done(moment, farm):
    victim, words, table = MOMENTS[moment]
    with ExitStack() as stack:
        if moment == "grant":
            stack.enter_context(farm.locked(table))
            version = farm.release()
        else:
            version = begin_one(farm)
            if victim == "receiver":
                farm.signal(victim, signal.SIGSTOP)
                farm.gates.open(version, *GATED)
                farm.await_phase(version, Phase.DELIVERING)
            stack.enter_context(farm.locked(table))
            farm.gates.open(version, *GATED)
            if victim == "receiver":
                farm.signal(victim, signal.SIGCONT)
        farm.await_held(words)
        farm.kill(victim)
    farm.settle([version])
    assert farm.fetches(version) == 1


def begin_one(farm):
    ((version, _),) = farm.begin(1).items()
    return version


def test_what_slaves_were_building_when_they_died_is_built_again_and_results_are_delivered(farm):
    scene, built = strike(farm, lambda scene: farm.kill(*scene.slaves, scene.other))
    again = {scene.leases[phase].version for phase in Phase if phase is not Phase.DELIVERING}
    assert {
        version for version, number in built.items() if scene.builds[version] != number
    } == again
    assert farm.lost(again) == len(again)


def test_slaves_and_the_database_die_at_once(farm):
    strike(farm, lambda scene: farm.kill(*scene.slaves, scene.other, "postgresql"))


def test_no_build_notices_that_all_connections_are_reset(farm):
    assert_unnoticed(farm, *strike(farm, lambda scene: hurt(Line.cut, farm.lines())))


@pytest.mark.parametrize("fault", [Line.stall, Line.lose], ids=["stall", "lose_all"])
def test_results_wait_on_the_slaves_while_their_lines(fault, farm):
    scene = farm.scene()
    hurt(fault, farm.lines())
    finish_on_the_slaves(farm, scene)
    farm.settle(scene.versions)


def finish_on_the_slaves(farm, scene):
    for lease in scene.leases.values():
        farm.gates.open(lease.version, *GATED)
    hired = [lease for lease in scene.leases.values() if lease.slave in farm.slaves]
    farm.until(lambda: all(map(farm.is_reported, hired)), "all results are on the slaves' disks")


def test_a_slave_that_wakes_after_its_lease_ended_delivers_what_nobody_else_took(farm):
    scene = farm.scene(is_one_idle=False)
    pids = [farm.pid(label) for label in scene.slaves]
    signal_all(pids, signal.SIGSTOP)
    farm.until(
        lambda: farm.look("SELECT count(*) FROM queue WHERE ready") == [(len(Phase),)],
        "all that the stopped slaves had waits again",
    )
    taken = scene.leases[Phase.FETCHING].version  # first in the queue, as it was before
    for filler in scene.fillers:
        farm.gates.open(filler, *GATED)
    farm.until(lambda: taken in farm.leases(), "the slave that is left took the first of them")
    signal_all(pids, signal.SIGCONT)
    farm.until(lambda: len(farm.leases()) == len(Phase), "the others have their leases back")
    built = farm.settle(scene.versions)
    elsewhere = {version for version, number in scene.builds.items() if built[version] != number}
    assert elsewhere == {taken}
    assert farm.lost(scene.versions) == 1
    assert [version for version in built if farm.fetches(version) != 1] == [taken]


def signal_all(pids, number):
    for pid in pids:
        os.kill(pid, number)


@pytest.mark.skipif("PIW_TEST_THOROUGH" not in os.environ, reason="takes long")
@pytest.mark.timeout(6 * 3600)
def test_any_faults_in_any_order(farm):
    seed = int(os.environ.get("PIW_TEST_SEED", random.randrange(10**6)))
    chance = random.Random(seed)
    for number in range(int(os.environ.get("PIW_TEST_ROUNDS", "100"))):
        scene = farm.scene()
        blows = possible_blows(farm, scene)
        fallen = chance.sample(sorted(blows), chance.randint(1, 3))
        print(f"PIW_TEST_SEED={seed}, round {number + 1}: {', then '.join(fallen)}", flush=True)
        for blow in fallen:
            blows[blow]()
            for version in scene.versions if chance.random() < 0.5 else ():
                farm.gates.open(version, *GATED)
            time.sleep(chance.uniform(0, 2))  # any moment will do
        farm.settle(scene.versions)
        farm.forgive()


def possible_blows(farm, scene):
    """By what they do."""
    victims = [*SERVICES, *PROGRAMS, "backend", *scene.slaves, scene.other]
    kills = {f"kill {victim}": partial(farm.kill, victim) for victim in victims}
    stops = {
        f"stop {lease.slave} beyond its lease": partial(farm.stop_beyond_lease, lease)
        for lease in scene.leases.values()
    }
    faults = {
        "cut": Line.cut,
        "stall": Line.stall,
        "lose": Line.lose,
        "lose for good": partial(Line.lose, for_good=True),
    }
    lines = {
        f"{name} lines of {kind}": partial(hurt, fault, [h.lines[n] for h in farm.slaves.values()])
        for name, fault in faults.items()
        for n, kind in enumerate(("messages", "files"))
    }
    return kills | stops | lines


def hurt(fault, lines):
    for line in lines:
        fault(line)


def test_in_the_end_all_is_built_and_published_and_nothing_waits_or_runs(farm):
    begun = farm.begin(HIRED + 1)
    assert len({lease.slave for lease in begun.values()}) == HIRED + 1, "every slave takes work"
    farm.settle(begun)
    farm.kill("receiver")  # it sweeps when it starts
    farm.until(lambda: not unrest(farm), "nothing waits")
    assert untruths(farm) == []
    assert [hired.end() for hired in farm.slaves.values()] == [0] * HIRED
    farm.farm.interrupt()
    assert farm.processes() == []
