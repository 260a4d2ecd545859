"""Which wheels may be published."""

import base64
import hashlib
import io
import struct
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.model.errors import BadWheel
from piwheels.rules import ingest
from piwheels.rules.ingest import inspect, is_degraded, refusal

NATIVE = "tiny-1.0-cp311-cp311-linux_aarch64.whl"
PURE = "tiny-1.0-py3-none-any.whl"
INFO = "tiny-1.0.dist-info"
AARCH64, X86_64 = 183, 62


def elf(machine):
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(40)


def digest(content):
    raw = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return "sha256=" + raw.rstrip(b"=").decode()


def record_of(files):
    rows = [f"{path},{digest(content)},{len(content)}" for path, content in files.items()]
    return "\n".join([*rows, f"{INFO}/RECORD,,", ""]).encode()


def contents(tags=("py3-none-any",), **changes):
    """The files of a wheel without its RECORD; *changes* by the last part of their path."""
    files = {
        "tiny.py": b"ANSWER = 42\n",
        f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: Tiny\nVersion: 1.0\n"
        b"Summary: Very small\nRequires-Python: >=3.8\nRequires-Dist: six\n",
        f"{INFO}/WHEEL": "".join(
            ["Wheel-Version: 1.0\nRoot-Is-Purelib: true\n", *(f"Tag: {tag}\n" for tag in tags)]
        ).encode(),
    }
    for path in files:
        key = path.rsplit("/", 1)[-1]
        files[path] = changes.pop(key, files[path])
    return files | {f"tiny/{name}.so": content for name, content in changes.items()}


def pack(files, record=None):
    """A wheel as a file; *record* in place of the right one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{INFO}/RECORD", record_of(files) if record is None else record)
    return file


def refuse(file, filename=PURE):
    with pytest.raises(BadWheel) as caught:
        inspect(file, filename)
    return str(caught.value)


def test_a_sane_wheel_is_described():
    report = inspect(pack(contents()), PURE)
    assert (report.package, report.version) == ("tiny", "1.0")
    assert report.tags == {"py3-none-any"}
    assert report.requires_python == ">=3.8"
    assert report.requires == ("six",)
    assert report.summary == "Very small"
    assert report.root_is_purelib
    assert report.metadata_sha256 == hashlib.sha256(report.metadata).hexdigest()
    assert not report.is_native


def test_native_code_is_found_by_its_content():
    files = contents(["cp311-cp311-linux_aarch64"], speed=elf(AARCH64))
    assert inspect(pack(files), NATIVE).native == ("tiny/speed.so",)


def test_a_wheel_for_any_platform_may_hold_no_native_code():
    assert "native code" in refuse(pack(contents(speed=elf(AARCH64))))


def test_native_code_of_another_machine_is_refused():
    files = contents(["cp311-cp311-linux_aarch64"], speed=elf(X86_64))
    assert "another machine" in refuse(pack(files), NATIVE)


def test_another_machines_binary_may_be_among_the_data():
    files = contents(["cp311-cp311-linux_aarch64"], speed=elf(AARCH64), firmware=elf(X86_64))
    assert len(inspect(pack(files), NATIVE).native) == 2


def test_a_compressed_tag_set_means_all_its_tags():
    files = contents(["py2-none-any", "py3-none-any"])
    assert inspect(pack(files), "tiny-1.0-py2.py3-none-any.whl").tags == {
        "py2-none-any",
        "py3-none-any",
    }


def test_tags_that_differ_from_the_filename_are_refused():
    assert "tags in its WHEEL" in refuse(pack(contents(["py2-none-any"])))


@pytest.mark.parametrize("field", [b"Name: other\nVersion: 1.0\n", b"Name: tiny\nVersion: 2.0\n"])
def test_metadata_that_differs_from_the_filename_is_refused(field):
    files = contents(METADATA=b"Metadata-Version: 2.1\n" + field)
    assert "in its METADATA is not that of its filename" in refuse(pack(files))


@pytest.mark.parametrize(
    "path",
    [
        "../tiny.py",
        "/etc/cron.d/tiny",
        "a/../../b",
        "a\\b",
        "C:/b",
        "a//b",
        "./a",
        "a\nb",
        "x" * 300,
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path):
    files = contents() | {path: b""}
    assert "its member" in refuse(pack(files))


def test_a_link_is_refused():
    file = io.BytesIO()
    link = zipfile.ZipInfo("tiny/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "neither file nor directory" in refuse(file)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused():
    file = pack(contents())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("tiny.py", b"ANSWER = 43\n")
    assert "more than once" in refuse(file)


def test_a_member_below_a_file_is_refused():
    assert "below a file" in refuse(pack(contents() | {"tiny.py/more.py": b""}))


def test_a_file_that_record_does_not_list_is_refused():
    files = contents()
    record = record_of({path: files[path] for path in files if path != "tiny.py"})
    assert "does not list 'tiny.py'" in refuse(pack(files, record))


def test_a_file_that_only_record_lists_is_refused():
    files = contents()
    record = record_of(files | {"gone.py": b""})
    assert "'gone.py', which is not there" in refuse(pack(files, record))


def test_content_that_differs_from_record_is_refused():
    files = contents()
    record = record_of(files | {"tiny.py": b"ANSWER = 41\n"})
    assert "another hash of 'tiny.py'" in refuse(pack(files, record))


def test_a_weak_hash_in_record_is_refused():
    files = contents()
    record = record_of(files).replace(b"tiny.py,sha256=", b"tiny.py,md5=")
    assert "no sha256 of 'tiny.py'" in refuse(pack(files, record))


@pytest.mark.parametrize("name", ["WHEEL", "METADATA"])
def test_a_wheel_without_its_descriptions_is_refused(name):
    files = contents()
    del files[f"{INFO}/{name}"]
    assert f"has no {INFO}/{name}" in refuse(pack(files))


def test_a_wheel_needs_exactly_one_dist_info():
    assert "2 .dist-info" in refuse(pack(contents() | {"other-1.dist-info/WHEEL": b""}))


def test_a_bomb_is_refused_before_it_goes_off(monkeypatch):
    monkeypatch.setattr(ingest, "RATIO_MATTERS_ABOVE", 1024)
    assert "times its size" in refuse(pack(contents() | {"zeros": bytes(10_000_000)}))


def test_too_many_members_are_refused(monkeypatch):
    monkeypatch.setattr(ingest, "MOST_MEMBERS", 3)
    assert "4 members; 3 are allowed" in refuse(pack(contents()))


def test_metadata_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(ingest, "MOST_METADATA_BYTES", 20)
    assert "is larger than 20 bytes" in refuse(pack(contents()))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_archive_are_refused(content):
    assert refuse(io.BytesIO(content))


@given(st.data())
def test_a_damaged_wheel_is_refused_or_unchanged_in_what_it_says(data):
    content = bytearray(pack(contents()).getvalue())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    try:
        report = inspect(io.BytesIO(bytes(content)), PURE)
    except BadWheel:
        return
    assert report == inspect(pack(contents()), PURE)


def test_a_member_that_is_not_as_long_as_the_archive_says_is_refused():
    content = bytearray(pack(contents()).getvalue())
    last_entry = content.rindex(b"PK\x01\x02")  # RECORD, which lists no size of its own
    content[last_entry + 24] ^= 1  # its uncompressed size (ZIP application note, 4.3.12)
    assert "another length" in refuse(io.BytesIO(bytes(content)))


@pytest.mark.parametrize("filename", ["tiny-1.0.whl", "../tiny-1.0-py3-none-any.whl", "x"])
def test_a_name_that_is_no_wheels_name_is_refused(filename):
    assert refuse(pack(contents()), filename)


def test_a_requires_python_that_installers_cannot_read_is_left_out():
    metadata = b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Python: >=3.*\n"
    assert inspect(pack(contents(METADATA=metadata)), PURE).requires_python == ""


REPORT = inspect(pack(contents()), PURE)
TAGS = ("cp311-cp311-linux_aarch64", "py3-none-any")


def test_what_was_asked_for_is_not_refused():
    assert refusal(REPORT, "Tiny", "1.0.0", TAGS) is None


@pytest.mark.parametrize(
    ("package", "version", "tags"),
    [("other", "1.0", TAGS), ("tiny", "1.1", TAGS), ("tiny", "1.0", TAGS[:1])],
    ids=["package", "version", "target"],
)
def test_what_was_not_asked_for_is_refused(package, version, tags):
    assert refusal(REPORT, package, version, tags)


def test_a_local_version_is_another_version():
    assert refusal(replace(REPORT, version="1.0+rebuilt"), "tiny", "1.0", TAGS)


def test_only_a_version_known_to_be_native_can_be_degraded():
    assert is_degraded(REPORT, native=True)
    assert not is_degraded(REPORT, native=False)
    assert not is_degraded(replace(REPORT, native=("tiny.so",)), native=True)
