"""scripts/bench: its list, its figures, what it knows of machines; and one small run."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmarks import fresh, machine, memory
from scripts.benchmarks.command import found, main, summary
from scripts.benchmarks.result import BenchmarkFailed, Spread
from scripts.benchmarks.suite import line

SECONDS = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(SECONDS, min_size=1))
def test_a_spread_holds_the_median_between_the_extremes(values):
    spread = Spread.of(values)
    assert spread.lowest <= spread.median <= spread.highest
    assert sum(value <= spread.median for value in values) * 2 >= len(values)
    assert sum(value >= spread.median for value in values) * 2 >= len(values)
    assert spread.count == len(values)


def test_nothing_measured_has_no_spread():
    with pytest.raises(BenchmarkFailed):
        Spread.of([])


def test_a_ratio_says_how_often_the_rivals_time_fits_into_the_lines():
    way = dict.fromkeys(line.MILESTONES, 1.0) | {"installable": 3.0, "downloaded": 9.0}
    measured = line.Round("tiny-pure", way, {}, {"pip wheel": 6.0, "uv build": 1.5}, "L2")
    assert measured.ratios == {"pip wheel": 0.5, "uv build": 2.0}


def test_without_a_name_every_benchmark_is_listed_on_one_line(tmp_path):
    command = [sys.executable, machine.CHECKOUT / "scripts" / "benchmarks"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = answer.stdout.splitlines()
    assert lines == [f"{one.NAME:<12}{summary(one)}" for one in found().values()]
    assert all(summary(one) for one in found().values())


def test_an_unknown_benchmark_is_refused_and_the_known_are_named(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["no-such-thing"])
    assert ended.value.code == 2
    assert "'line'" in capsys.readouterr().err


def test_no_rounds_at_all_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["line", "--rounds", "0"])
    assert ended.value.code == 2
    assert "at least one round" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: Xeon\n\nprocessor\t: 1\nmodel name\t: Xeon\n", "Xeon"),
        ("processor\t: 0\nBogoMIPS\t: 108\n\nModel\t\t: Raspberry Pi 4: B\n", "Raspberry Pi 4: B"),
        ("processor\t: 0\nBogoMIPS\t: 50\n", platform.machine()),
    ],
)
def test_the_processor_is_named_as_its_kernel_names_it(cpuinfo, name):
    assert machine.cpu_model(cpuinfo) == name


def test_the_memory_of_a_tree_includes_its_children():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert memory.by_name({"it": os.getpid()}, ["it"])["it"] > memory.pss(child.pid) > 0
    finally:
        child.communicate(b"\n")


def test_shared_pages_are_counted_once():
    assert 0 < memory.pss(os.getpid()) <= psutil.Process().memory_info().rss


def test_the_memory_of_a_process_that_ended_is_an_error():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(BenchmarkFailed):
        memory.pss(child.pid)


@pytest.mark.parametrize("package", line.PACKAGES)
def test_a_fresh_package_has_its_own_name_throughout(tmp_path, package):
    sdist = fresh.release(package, f"{package}-7", tmp_path)
    stem = f"{package}-7".replace("-", "_") + "-1.0"
    assert sdist == tmp_path / f"{stem}.tar.gz"
    assert list(tmp_path.iterdir()) == [sdist]
    with tarfile.open(sdist) as archive:
        for name in ("PKG-INFO", "pyproject.toml"):
            assert f"{package}-7" in archive.extractfile(f"{stem}/{name}").read().decode()


@pytest.mark.timeout(900)
def test_the_line_reports_every_sample_and_what_they_come_to(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PIP_NO_COMPILE", "yes")  # half of what pip does, and nobody reads its times
    file = tmp_path / "line.json"
    words = ["line", "--rounds", "1", "--package", "tiny-pure", "--json", str(file)]
    status = main(words)
    said = capsys.readouterr()
    assert status == 0, said.err
    report = json.loads(file.read_text())
    assert report["benchmark"] == "line"
    assert report["command"].startswith("scripts/bench line --rounds 1")
    assert {"cpu", "cores", "memory", "python", "postgresql", "commit"} <= report["machine"].keys()
    (measured,) = (sample for sample in report["samples"] if sample["kind"] == "round")
    assert measured["package"] == "tiny-pure"
    assert tuple(measured["milestones"]) == tuple(line.MILESTONES)
    way = [measured["milestones"][name] for name in list(line.MILESTONES)[1:]]
    assert way == sorted(way), "what comes later in the line happens later"
    assert measured["ratios"].keys() == line.RIVALS.keys()
    start, rest = (sample for sample in report["samples"] if sample["kind"] == "memory")
    assert start["services"].keys() == rest["services"].keys()
    services = {"supervisor", "dispatcher", "receiver", "keeper", "admin", "status", "publisher"}
    assert services <= rest["services"].keys()
    assert {"web", "slave", "postgresql"} <= rest["others"].keys()
    figures = report["figures"]
    assert figures["memory"]["master"] == sum(rest["services"].values())
    for rival, ratio in figures["packages"]["tiny-pure"]["ratios"].items():
        assert ratio["median"] == statistics.median([measured["ratios"][rival]])
    assert "installable / pip wheel" in said.out
