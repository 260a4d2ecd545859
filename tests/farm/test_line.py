"""The whole line, for real: piw-add → queue → slave → wheel → index → pip and uv."""

import gzip
import hashlib
import json
import subprocess
import sys
import venv
import zipfile

import pytest

from tests.running_farm import BIN, running_farm


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def environment(tmp_path):
    """A fresh virtual environment with nothing in it."""
    venv.create(tmp_path / "venv")
    return tmp_path / "venv"


def installed_hashes(environment, pattern):
    files = environment.glob(f"lib/python*/site-packages/{pattern}")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def wheel_hashes(farm, package, filename, pattern):
    wheel = farm.data / "www" / "simple" / package / filename
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if name.startswith(pattern)
        }


def build(farm, package):
    answer = farm.add(package)
    assert answer.returncode == 0, answer.stderr
    (filename,) = farm.wait_for_file(package)
    return filename


def test_pip_installs_a_compiled_wheel_that_the_farm_built(farm, environment):
    filename = build(farm, "tiny-extension")
    python = environment / "bin" / "python"
    answer = run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-cache-dir",
        "--index-url", farm.index_url, "tiny-extension",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert run(python, "-c", "import tiny_extension").returncode == 0
    installed = installed_hashes(environment, "tiny_extension*.so")
    assert installed
    assert installed == wheel_hashes(farm, "tiny-extension", filename, "tiny_extension.")


def test_uv_installs_a_pure_wheel_that_the_farm_built(farm, environment):
    filename = build(farm, "tiny-pure")
    python = environment / "bin" / "python"
    answer = run(
        BIN / "uv", "pip", "install", "--no-cache", "--python", python,
        "--default-index", farm.index_url, "tiny-pure",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert run(python, "-c", "import tiny_pure").returncode == 0
    installed = installed_hashes(environment, "tiny_pure.py")
    assert installed == wheel_hashes(farm, "tiny-pure", filename, "tiny_pure.py")


def test_every_file_of_a_page_is_there_with_its_hash_and_its_metadata(farm):
    build(farm, "tiny-pure")
    page = farm.get("simple/tiny-pure/", Accept="application/vnd.pypi.simple.v1+json").json()
    (file,) = page["files"]
    wheel = farm.get(f"simple/tiny-pure/{file['url']}").content
    metadata = farm.get(f"simple/tiny-pure/{file['url']}.metadata").content
    assert hashlib.sha256(wheel).hexdigest() == file["hashes"]["sha256"]
    assert hashlib.sha256(metadata).hexdigest() == file["core-metadata"]["sha256"]
    assert len(wheel) == file["size"]


def test_a_failed_build_tells_its_cause_and_its_log_and_disturbs_no_other(farm):
    assert farm.add("tiny-missing-header").returncode == 0
    ended = farm.status(
        until=lambda now: [b for b in now.ended if b.package == "tiny-missing-header"]
    ).ended
    failed = next(build for build in ended if build.package == "tiny-missing-header")
    assert failed.outcome == "failure"
    assert failed.kind == "missing header or tool"
    assert "\n" not in failed.cause
    log = farm.get(failed.log)
    assert log.headers["Content-Type"].startswith("text/plain")
    assert failed.cause in log.text
    assert gzip.decompress((farm.data / "www" / failed.log).read_bytes()).decode() == log.text
    farm.status(until=lambda now: now.pages == 0)
    page = farm.get("project/tiny-missing-header/").text
    assert failed.log in page
    assert farm.get("simple/tiny-missing-header/").status_code == 404
    build(farm, "tiny-legacy")


def test_a_wheel_of_another_name_is_not_published(farm):
    assert farm.add("tiny-liar").returncode == 0
    now = farm.status(until=lambda now: [b for b in now.ended if b.package == "tiny-liar"])
    liar = next(build for build in now.ended if build.package == "tiny-liar")
    assert liar.kind == "bad wheel"
    assert farm.get("simple/somebody-else/").status_code == 404


def test_what_is_added_again_is_not_built_again(farm):
    build(farm, "tiny-pure")
    answer = farm.add("tiny-pure", "--json")
    assert json.loads(answer.stdout)["is_news"] is False
    now = farm.status(until=lambda now: now.queued == 0 and not now.running)
    assert sum(build.package == "tiny-pure" for build in now.ended) == 1


def test_what_failed_is_tried_again_when_it_is_added_again(farm):
    farm.add("tiny-broken")
    first = ended(farm, "tiny-broken", 1)
    assert "will be built" in farm.add("tiny-broken").stdout
    second = ended(farm, "tiny-broken", 2)
    assert [build.build_id for build in first] < [build.build_id for build in second]


def ended(farm, package, number):
    """The builds of *package*, once there are so many."""

    def builds(now):
        return [build for build in now.ended if build.package == package]

    now = farm.status(until=lambda now: len(builds(now)) == number and not now.running)
    return builds(now)


def test_two_farms_cannot_share_their_data(farm):
    answer = run(BIN / "piw-farm", "--data", farm.data, "--port", "0")
    assert answer.returncode == 1
    assert "another" in answer.stderr
    assert "--data" in answer.stderr


def test_two_interpreters_build_a_compiled_package_each_and_a_pure_one_once(data, pypi, pythons):
    words = [word for python in pythons for word in ("--python", python)]
    packages = ["tiny-extension", "tiny-pure"]
    with running_farm(data, pypi.simple_url, "--exit", *words, *packages) as farm:
        assert farm.process.wait(300) == 0, farm.text() + farm.logs()
    tree = data / "www" / "simple"
    compiled = sorted(path.name for path in (tree / "tiny-extension").glob("*.whl"))
    assert len(compiled) == 2
    assert len({name.split("-")[2] for name in compiled}) == 2
    assert [path.name for path in (tree / "tiny-pure").glob("*.whl")] == [
        "tiny_pure-1.0-py3-none-any.whl"
    ]
    assert farm.text().count("✓ tiny-pure 1.0") == 3, "built once, done for two targets"
    this = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert any(this in name for name in compiled)
