"""Sdists that want more than to be unpacked."""

import io
import os
import stat
import tarfile
import threading
import zipfile

import pytest

from piwheels.slave import sdist
from piwheels.slave.clock import Clock
from piwheels.slave.failed import BuildFailed, Cancelled
from piwheels.slave.room import open_room, remove
from piwheels.slave.sdist import unpack

CLOCK = Clock.start(0, threading.Event())


def entry(name, kind=tarfile.REGTYPE, target="", mode=0o644, mtime=1_600_000_000):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, target, mode, mtime
    return info


def tar(path, *members):
    """Write a tar file of (entry, content); an entry alone has none."""
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            info, content = member if isinstance(member, tuple) else (member, b"")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def unpacked(tmp_path):
    """Unpacks members of a tar file; returns its one directory."""

    def work(*members):
        destination = tmp_path / "out"
        destination.mkdir()
        return unpack(tar(tmp_path / "a-1.tar.gz", *members), destination, CLOCK)

    return work


def refuse(unpacked, *members):
    with pytest.raises(BuildFailed) as caught:
        unpacked(*members)
    assert caught.value.failure.kind == "bad sdist"
    return caught.value.failure.cause


def test_the_one_directory_and_the_newest_time_are_told(unpacked):
    old, new = entry("a-1/old", mtime=1_500_000_000), entry("a-1/new", mtime=1_550_000_000)
    source = unpacked(old, (new, b"content"))
    assert source.top.name == "a-1"
    assert source.newest == 1_550_000_000
    assert (source.top / "new").read_bytes() == b"content"


def test_modes_are_normalized(unpacked):
    top = unpacked(entry("a-1/run", mode=0o4777), entry("a-1/read", mode=0o000)).top
    modes = [stat.S_IMODE((top / name).stat().st_mode) for name in ("run", "read")]
    assert modes == [0o755, 0o644]


@pytest.mark.parametrize("name", ["/a-1/x", "../x", "a-1/../../x", "a-1/" + "x" * 256])
def test_a_path_that_leads_elsewhere_is_refused(unpacked, name):
    assert "path" in refuse(unpacked, entry(name))


@pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd", "b/../../.."])
def test_a_link_that_leads_outside_is_refused(unpacked, target):
    assert "leads outside" in refuse(unpacked, entry("a-1/x", tarfile.SYMTYPE, target))


def test_a_link_that_leads_outside_by_another_link_is_refused(unpacked):
    members = [
        entry("a-1/deep", tarfile.DIRTYPE),
        entry("a-1/out", tarfile.SYMTYPE, "deep/here/../.."),
        entry("a-1/deep/here", tarfile.SYMTYPE, "."),
    ]
    assert "leads outside" in refuse(unpacked, *members)


def test_nothing_is_written_through_a_link(unpacked, tmp_path):
    link = entry("a-1/x", tarfile.SYMTYPE, str(tmp_path))
    refuse(unpacked, link, (entry("a-1/x/planted"), b"content"))
    assert not (tmp_path / "planted").exists()


def test_no_link_is_made_through_another_one(unpacked, tmp_path):
    members = [
        entry("a-1/x", tarfile.SYMTYPE, str(tmp_path)),
        entry("a-1/x/planted", tarfile.SYMTYPE, "/etc/passwd"),
    ]
    assert "below another link" in refuse(unpacked, *members)
    assert not (tmp_path / "planted").is_symlink()


def test_a_link_inside_is_kept(unpacked):
    top = unpacked(entry("a-1/x"), entry("a-1/y", tarfile.SYMTYPE, "x")).top
    assert os.readlink(top / "y") == "x"


def test_a_hard_link_becomes_a_file_of_its_own(unpacked):
    top = unpacked((entry("a-1/x"), b"content"), entry("a-1/y", tarfile.LNKTYPE, "a-1/x")).top
    assert (top / "y").read_bytes() == b"content"
    assert (top / "y").stat().st_nlink == 1


def test_a_hard_link_to_nothing_is_refused(unpacked):
    assert "nothing" in refuse(unpacked, entry("a-1/y", tarfile.LNKTYPE, "etc/passwd"))


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(unpacked, kind):
    assert "neither file" in refuse(unpacked, entry("a-1/x", kind))


def test_two_directories_at_the_top_are_refused(unpacked):
    assert "2 entries" in refuse(unpacked, entry("a-1/x"), entry("b-1/x"))


def test_an_endless_header_is_refused_before_it_is_read(unpacked):
    header = (entry("x", tarfile.XHDTYPE), bytes(2 * sdist.LONGEST_HEADER))
    assert "header" in refuse(unpacked, header, entry("a-1/x"))


def test_more_than_a_build_may_be_given_is_refused(unpacked, monkeypatch):
    monkeypatch.setattr(sdist, "MOST_BYTES", 1000)
    assert "unpacks to more" in refuse(unpacked, (entry("a-1/x"), bytes(1001)))


def test_a_truncated_archive_is_refused(tmp_path):
    whole = tar(tmp_path / "a-1.tar.gz", (entry("a-1/x"), os.urandom(50_000))).read_bytes()
    broken = tmp_path / "b-1.tar.gz"
    broken.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "out").mkdir()
    with pytest.raises(BuildFailed, match="broken"):
        unpack(broken, tmp_path / "out", CLOCK)


def test_a_zip_file_is_unpacked_likewise(tmp_path):
    archive = tmp_path / "a-1.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("a-1/x", (2020, 1, 2, 3, 4, 6)), "content")
    (tmp_path / "out").mkdir()
    source = unpack(archive, tmp_path / "out", CLOCK)
    assert (source.top / "x").read_text() == "content"
    assert source.newest == 1_577_934_246


def test_a_zip_file_leads_nowhere_else_either(tmp_path):
    archive = tmp_path / "a-1.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("a-1/../../x", "content")
    (tmp_path / "out").mkdir()
    with pytest.raises(BuildFailed, match="leads elsewhere"):
        unpack(archive, tmp_path / "out", CLOCK)


def test_unpacking_ends_when_the_build_is_cancelled(tmp_path):
    archive = tar(tmp_path / "a-1.tar.gz", entry("a-1/x"))
    cancelled = threading.Event()
    cancelled.set()
    (tmp_path / "out").mkdir()
    with pytest.raises(Cancelled):
        unpack(archive, tmp_path / "out", Clock.start(0, cancelled))


def test_a_room_is_removed_whatever_became_of_it(tmp_path):
    with open_room(tmp_path / "rooms") as room:
        (room.source / "a/b/c").mkdir(parents=True)
        (room.source / "a/b/c/file").write_text("content")
        (room.home / "link").symlink_to("/")
        for path in ("a/b/c", "a/b", "a"):
            (room.source / path).chmod(0)
    assert list((tmp_path / "rooms").iterdir()) == []


def test_removing_a_tree_follows_no_link(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("content")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "tree")
    assert (tmp_path / "kept/file").exists()


def test_a_room_in_use_is_not_swept_away(tmp_path):
    with open_room(tmp_path) as one, open_room(tmp_path):
        assert one.source.is_dir()
