"""Faults of every kind while builds are in every phase: each version is built, exactly once."""

import os
import random
import time
from functools import partial

import pytest

from piwheels.model.builds import Phase
from tests.farm.audit import end_well
from tests.farm.faults import GATED, PROGRAMS, SERVICES, hurt_farm
from tests.farm.lines import Line

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    with hurt_farm(tmp_path_factory.mktemp("hurt")) as farm:
        yield farm


@pytest.mark.parametrize("victim", [*SERVICES, *PROGRAMS, "backend"])
def test_no_build_in_any_phase_notices_the_death_of(victim, farm):
    scene, built = farm.strike(lambda scene: farm.kill(victim))
    assert built == scene.builds
    assert {version: farm.fetches(version) for version in built} == dict.fromkeys(built, 1)


def test_what_slaves_were_building_when_they_died_is_built_again_and_results_are_delivered(farm):
    scene, built = farm.strike(lambda scene: farm.kill(*scene.slaves, scene.other))
    again = {version for version, number in built.items() if scene.builds[version] != number}
    assert again == {*scene.builds} - {scene.leases[Phase.DELIVERING].version}
    assert farm.lost(again) == len(again)


def test_slaves_and_the_database_die_at_once(farm):
    farm.strike(lambda scene: farm.kill(*scene.slaves, scene.other, "postgresql"))


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
        f"{name} lines of {kind}": partial(spoil, fault, farm.lines(n))
        for name, fault in faults.items()
        for n, kind in enumerate(("messages", "files"))
    }
    return kills | stops | lines


def spoil(fault, lines):
    for line in lines:
        fault(line)


def test_in_the_end_all_is_built_and_published_and_nothing_waits_or_runs(farm):
    end_well(farm)
