"""The writer of the web tree: whole pages, quiet ones, and wheels that never change."""

import contextlib
import gzip
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from piwheels.index.durable import NameTaken, temporary
from piwheels.index.pages import Home
from piwheels.index.writer import SIMPLE_PAGES, WebTree
from piwheels.model.errors import BadName
from tests.index.conftest import make_wheel, metadata_of, project, publish

WRITER = """
import sys
from itertools import cycle
from pathlib import Path
from piwheels.index.writer import WebTree
tree = WebTree(Path(sys.argv[1]))
small, large = ["first"], [f"package-{number}" for number in range(20000)]
for packages in cycle([small, large]):
    tree.write_root(packages)
    print("written", flush=True)
"""


def pages_below(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file, with what changes if it is written again."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.rglob("*")
        if path.is_file()
    }


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file()]


@pytest.fixture
def tiny(tree, staging):
    """A package with one published wheel."""
    return project("tiny", (publish(tree, make_wheel(staging, "tiny", "1.0")),))


@pytest.fixture
def writing_process(tree):
    """A process that rewrites the root page without end, a small and a large one in turn."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tree.root)], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_package_has_each_page_in_three_forms_and_each_compressed(tree, tiny):
    tree.write_project(tiny)
    folder = tree.package_folder("tiny")
    assert {path.name for path in folder.glob("index.*")} == {
        *SIMPLE_PAGES,
        *(f"{name}.gz" for name in SIMPLE_PAGES),
    }


def test_every_compressed_page_holds_what_the_plain_one_holds(tree, tiny):
    tree.write_project(tiny)
    tree.write_root(["tiny"])
    tree.write_home(Home((), 0))
    tree.install_static()
    packed = list(tree.root.rglob("*.gz"))
    assert len(packed) == 3 + 1 + 3 + 1 + 2
    for path in packed:
        assert gzip.decompress(path.read_bytes()) == path.with_suffix("").read_bytes()


def test_equal_pages_have_equal_compressed_bytes(tmp_path):
    for name in "ab":
        WebTree(tmp_path / name).write_root(["tiny"])
    first, second = (tmp_path / name / "simple/index.html.gz" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_unchanged_pages_are_not_touched(tree, tiny):
    def write_all():
        tree.write_project(tiny)
        tree.write_root(["tiny"])
        tree.write_home(Home((), 0))
        tree.install_static()

    write_all()
    before = pages_below(tree.root)
    write_all()
    assert pages_below(tree.root) == before


def test_a_changed_page_is_written_again_and_its_siblings_are_not(tree, tiny):
    tree.write_project(tiny)
    folder = tree.package_folder("tiny")
    before = pages_below(folder)
    later = replace(tiny.files[0], published=tiny.files[0].published + timedelta(days=1))
    tree.write_project(replace(tiny, files=(later,)))  # HTML has no time in it, JSON has
    after = pages_below(folder)
    changed = {path.name for path in after if after[path] != before[path]}
    assert changed == {"index.v1_json", "index.v1_json.gz"}


@pytest.mark.parametrize("damage", [b"", b"no gzip", gzip.compress(b"another page", mtime=0), None])
def test_a_compressed_page_that_fell_behind_is_repaired(tree, damage):
    tree.write_root(["tiny"])
    packed = tree.root / "simple/index.html.gz"
    packed.unlink() if damage is None else packed.write_bytes(damage)
    tree.write_root(["tiny"])
    assert gzip.decompress(packed.read_bytes()) == packed.with_suffix("").read_bytes()


def test_a_page_that_lost_its_end_is_repaired(tree):
    tree.write_root(["tiny"])
    page = tree.root / "simple/index.html"
    whole = page.read_bytes()
    page.write_bytes(whole[:-1])
    tree.write_root(["tiny"])
    assert page.read_bytes() == whole


def test_all_users_can_read_the_tree_whatever_the_umask(tree, staging):
    before = os.umask(0o077)
    try:
        wheel = make_wheel(staging, "tiny", "1.0")
        tree.write_project(project("tiny", (publish(tree, wheel),)))
        tree.place_bytes(b"log", tree.log_path(7))
        tree.install_static()
    finally:
        os.umask(before)
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in tree.root.rglob("*")}
    assert modes == {(True, 0o755), (False, 0o644)}


def test_a_package_without_a_file_has_a_project_page_only(tree):
    tree.write_project(project("tiny"))
    assert not tree.package_folder("tiny").exists()
    assert (tree.project_folder("tiny") / "index.html").exists()


def test_a_package_that_lost_its_last_file_loses_its_simple_pages(tree, tiny):
    tree.write_project(tiny)
    tree.write_project(replace(tiny, files=()))
    assert not list(tree.package_folder("tiny").glob("index.*"))


def test_wheels_stay_while_pages_that_name_them_may_be_in_caches(tree, tiny):
    tree.write_project(tiny)
    tree.remove_project("tiny")
    assert not list(tree.root.rglob("index.*"))
    assert tree.wheel_path("tiny", tiny.files[0].filename).exists()


def test_nothing_is_left_of_a_removed_package_in_the_end(tree, tiny):
    tree.write_project(tiny)
    tree.remove_project("tiny")
    tree.remove_files("tiny", [file.filename for file in tiny.files])
    assert not list(tree.root.rglob("*tiny*"))


def test_removing_what_is_not_there_is_harmless(tree):
    tree.remove_project("tiny")
    tree.remove_files("tiny", ["tiny-1.0-py3-none-any.whl"])
    assert not list(tree.root.rglob("*tiny*"))


def test_no_page_names_a_wheel_that_is_not_there(tree, tiny, staging):
    lost = publish(tree, make_wheel(staging, "tiny", "2.0"))
    tree.wheel_path("tiny", lost.filename).unlink()
    assert tree.write_project(replace(tiny, files=(lost, *tiny.files))) == (lost.filename,)
    for page in tree.root.rglob("index.*"):
        if not page.name.endswith(".gz"):
            assert lost.filename not in page.read_text()
    assert tiny.files[0].filename in (tree.package_folder("tiny") / "index.html").read_text()


def test_no_page_announces_a_sidecar_that_is_not_there(tree, tiny):
    tree.sidecar_path("tiny", tiny.files[0].filename).unlink()
    assert tree.write_project(tiny) == ()
    page = json.loads((tree.package_folder("tiny") / "index.v1_json").read_text())
    assert "core-metadata" not in page["files"][0]


def test_a_reader_never_sees_half_a_page(tree, writing_process):
    seen = set()
    while len(seen) < 2:
        page = (tree.root / "simple/index.html").read_bytes()
        assert page.endswith(b"</body>\n</html>\n")
        gzip.decompress((tree.root / "simple/index.html.gz").read_bytes())
        json.loads((tree.root / "simple/index.v1_json").read_bytes())
        seen.add(hashlib.sha256(page).hexdigest())


@pytest.mark.parametrize("rewritten", [0, 1, 2, 3, 4, 5])
def test_a_writer_that_is_killed_leaves_no_half_page(tree, writing_process, rewritten):
    for _ in range(rewritten):
        writing_process.stdout.readline()
    while not temporaries(tree.root):  # it is in the middle of a page
        pass
    writing_process.send_signal(signal.SIGKILL)
    writing_process.wait()
    assert (tree.root / "simple/index.html").read_bytes().endswith(b"</html>\n")
    json.loads((tree.root / "simple/index.v1_json").read_bytes())
    for packed in tree.root.rglob("index.*.gz"):
        gzip.decompress(packed.read_bytes())


def test_what_a_killed_writer_left_is_swept_and_the_next_one_repairs_the_rest(
    tree, writing_process
):
    while not temporaries(tree.root):
        pass
    writing_process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, writing_process.pid, os.WSTOPPED)
    left = temporaries(tree.root)
    writing_process.kill()
    writing_process.wait()
    assert tree.sweep(datetime.now(UTC) + timedelta(days=1)) == len(left)
    assert not temporaries(tree.root)
    tree.write_root(["tiny"])
    for packed in tree.root.rglob("*.gz"):
        assert gzip.decompress(packed.read_bytes()) == packed.with_suffix("").read_bytes()


def test_the_sweep_leaves_alone_what_is_being_written(tree):
    started = datetime.now(UTC)
    with temporary(tree.root) as file:
        assert tree.sweep(started - timedelta(hours=1)) == 0
        assert Path(file.name).exists()


def test_the_sweep_leaves_alone_what_a_writer_did_not_make(tree):
    (tree.root / ".htaccess").write_text("an operator's")
    tree.sweep(datetime.now(UTC) + timedelta(days=1))
    assert (tree.root / ".htaccess").exists()


def test_a_failure_while_rendering_leaves_the_page_as_it_was(tree):
    class Broken(list):
        def __iter__(self):
            yield "tiny"
            raise RuntimeError("the database went away")

    tree.write_root(["tiny"])
    before = pages_below(tree.root)
    with pytest.raises(RuntimeError):
        tree.write_root(Broken())
    assert pages_below(tree.root) == before


def test_a_full_disk_leaves_the_page_as_it_was(tree):
    tree.write_root(["tiny"])
    before = pages_below(tree.root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            tree.write_root([f"package-{number}" for number in range(1000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert pages_below(tree.root) == before


def test_placing_a_wheel_twice_is_harmless(tree, staging):
    wheel = make_wheel(staging, "tiny", "1.0")
    destination = tree.wheel_path("tiny", wheel.name)
    assert tree.place(wheel, destination) is True
    before = pages_below(tree.root)
    assert tree.place(wheel, destination) is False
    assert pages_below(tree.root) == before


def test_a_copy_of_a_published_wheel_counts_as_published(tree, staging):
    wheel = make_wheel(staging, "tiny", "1.0")
    destination = tree.wheel_path("tiny", wheel.name)
    tree.place(wheel, destination)
    copy = staging / "copy"
    copy.write_bytes(wheel.read_bytes())
    assert tree.place(copy, destination) is False


def test_other_bytes_never_take_a_published_name(tree, staging):
    wheel = make_wheel(staging, "tiny", "1.0")
    destination = tree.wheel_path("tiny", wheel.name)
    tree.place(wheel, destination)
    published = destination.read_bytes()
    other = staging / "other"
    other.write_bytes(published[:-1] + bytes([published[-1] ^ 1]))
    with pytest.raises(NameTaken, match="higher build tag"):
        tree.place(other, destination)
    assert destination.read_bytes() == published


def test_other_bytes_never_take_a_sidecars_name(tree):
    destination = tree.sidecar_path("tiny", "tiny-1.0-py3-none-any.whl")
    assert tree.place_bytes(b"Name: tiny", destination) is True
    assert tree.place_bytes(b"Name: tiny", destination) is False
    with pytest.raises(NameTaken):
        tree.place_bytes(b"Name: other", destination)
    assert destination.read_bytes() == b"Name: tiny"
    assert not temporaries(tree.root)


def test_one_of_many_writers_that_race_for_a_name_wins_whole(tree, staging):
    destination = tree.wheel_path("tiny", "tiny-1.0-py3-none-any.whl")
    contents = [bytes([number]) * 300_000 for number in range(8)]
    won = []

    def race(content: bytes) -> None:
        with contextlib.suppress(NameTaken):
            won.append((tree.place_bytes(content, destination), content))

    racers = [threading.Thread(target=race, args=(content,)) for content in contents]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert won == [(True, destination.read_bytes())]


def test_a_wheel_staged_on_another_file_system_is_copied(tree):
    folders = [Path(name) for name in ("/dev/shm", "/var/tmp", "/tmp")]
    here = tree.root.stat().st_dev
    elsewhere = next((folder for folder in folders if folder.stat().st_dev != here), None)
    if elsewhere is None:
        pytest.skip("needs /dev/shm, /var/tmp or /tmp on a file system of its own")
    staged = elsewhere / f"piwheels-test-{os.getpid()}.whl"
    staged.write_bytes(b"wheel" * 100_000)
    try:
        destination = tree.wheel_path("tiny", "tiny-1.0-py3-none-any.whl")
        assert tree.place(staged, destination) is True
        assert destination.read_bytes() == staged.read_bytes()
        assert tree.place(staged, destination) is False
        assert not temporaries(tree.root)
    finally:
        staged.unlink()


def test_a_staged_file_that_is_gone_is_an_error(tree, staging):
    with pytest.raises(FileNotFoundError):
        tree.place(staging / "gone", tree.wheel_path("tiny", "tiny-1.0-py3-none-any.whl"))


@pytest.mark.parametrize("destination", ["../outside.whl", "/etc/outside.whl", "simple/../../x"])
def test_nothing_is_placed_outside_the_tree(tree, destination):
    with pytest.raises(ValueError, match="not in the web tree"):
        tree.place_bytes(b"", tree.root / destination)


@pytest.mark.parametrize("package", ["..", "Tiny", "a_b", "", "a/b", ".hidden", "a" * 300])
def test_only_normalized_names_have_a_folder(tree, package):
    with pytest.raises(BadName):
        tree.package_folder(package)


@pytest.mark.parametrize(
    "filename",
    [
        "other-1.0-py3-none-any.whl",
        "../tiny-1.0-py3-none-any.whl",
        "tiny-1.0.tar.gz",
        "index.html",
        f"tiny-1.0-py3-none-{'a' * 230}.whl",
    ],
)
def test_only_wheels_of_a_package_lie_in_its_folder(tree, filename):
    with pytest.raises(BadName):
        tree.wheel_path("tiny", filename)


def test_the_longest_wheel_name_has_room_for_its_sidecar(tree, staging):
    name = f"tiny-1.0-py3-none-{'a' * 224}.whl"
    tree.place_bytes(b"", tree.wheel_path("tiny", name))
    sidecar = tree.sidecar_path("tiny", name)
    assert tree.place_bytes(b"", sidecar) is True
    assert len(sidecar.name) == 255


def test_a_sidecar_is_byte_for_byte_what_the_wheel_holds(tree, staging):
    wheel = make_wheel(staging, "tiny", "1.0")
    file = publish(tree, wheel)
    sidecar = tree.sidecar_path("tiny", wheel.name).read_bytes()
    assert sidecar == metadata_of(wheel)
    assert hashlib.sha256(sidecar).hexdigest() == file.metadata_sha256
