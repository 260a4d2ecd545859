"""What a log gives away, and what follows from it."""

# ruff: noqa: RUF001  compilers quote like that

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.model.builds import FailureClass
from piwheels.rules.failures import CONSEQUENCES, Blame, Remedy, classify, next_try, one_line

LOGS = [
    (
        "db.c:3:10: fatal error: libpq-fe.h: No such file or directory\ncompilation terminated.",
        FailureClass.MISSING_TOOL,
        "the header libpq-fe.h is missing",
        "apt install libpq-dev",
    ),
    (
        "x.c:1:10: fatal error: 'openssl/ssl.h' file not found",
        FailureClass.MISSING_TOOL,
        "the header openssl/ssl.h is missing",
        "apt install libssl-dev",
    ),
    (
        "x.c:1:10: fatal error: Python.h: No such file or directory",
        FailureClass.MISSING_TOOL,
        "the header Python.h is missing",
        "apt install python3-dev",
    ),
    (
        "error: command 'gcc' failed: No such file or directory",
        FailureClass.MISSING_TOOL,
        "the tool gcc is missing",
        "apt install build-essential",
    ),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: 'cmake'",
        FailureClass.MISSING_TOOL,
        "the tool cmake is missing",
        "apt install cmake",
    ),
    (
        "/bin/sh: 1: swig: not found",
        FailureClass.MISSING_TOOL,
        "the tool swig is missing",
        "apt install swig",
    ),
    (
        "error: can't find Rust compiler",
        FailureClass.MISSING_TOOL,
        "the Rust compiler is missing",
        "apt install cargo rustc",
    ),
    (
        "/usr/bin/ld: cannot find -lxml2: No such file or directory",
        FailureClass.MISSING_TOOL,
        "the library xml2 is missing",
        "apt install libxml2-dev",
    ),
    (
        "ModuleNotFoundError: No module named 'pkg_resources'",
        FailureClass.LEGACY_TOOLS,
        "it needs pkg_resources, which today's build tools no longer have",
        "build it again with the build tools of its release date",
    ),
    (
        "Exception: Can not find valid pkg-config name.\n"
        "Specify MYSQLCLIENT_CFLAGS and MYSQLCLIENT_LDFLAGS env vars manually",
        FailureClass.MISSING_TOOL,
        "pkg-config knows no MySQL or MariaDB",
        "apt install libmariadb-dev pkg-config",
    ),
    (
        "Package libswresample was not found in the pkg-config search path.",
        FailureClass.MISSING_TOOL,
        "pkg-config does not know libswresample: its development files are missing",
        "apt install libswresample-dev",
    ),
    (
        "Package hardly-known was not found in the pkg-config search path.",
        FailureClass.MISSING_TOOL,
        "pkg-config does not know hardly-known: its development files are missing",
        "apt-file search hardly-known.pc names the package to install",
    ),
    (
        "  Could NOT find ZLIB (missing: ZLIB_LIBRARY ZLIB_INCLUDE_DIR)",
        FailureClass.MISSING_TOOL,
        "CMake cannot find ZLIB: its development files are missing",
        "apt install zlib1g-dev",
    ),
    (
        "-- Could NOT find Doxygen (missing: DOXYGEN_EXECUTABLE)\nCMake Error: it is too dark",
        FailureClass.SOURCE_ERROR,
        "CMake Error: it is too dark",
        "",
    ),
    (
        "ext/_yaml.c:4:10: fatal error: longintrepr.h: No such file or directory",
        FailureClass.UNSUPPORTED,
        "its C code needs longintrepr.h, which this Python no longer has",
        "",
    ),
    (
        "x.c:2:69: error: ‘PyTypeObject’ {aka ‘struct _typeobject’} has no member named ‘tp_print’;"
        " did you mean ‘tp_init’?",
        FailureClass.UNSUPPORTED,
        "its C code uses PyTypeObject.tp_print, which this Python no longer has",
        "",
    ),
    (
        "x.c:2:10: fatal error: numpy/arrayobject.h: No such file or directory",
        FailureClass.SOURCE_ERROR,
        "the build needs the module numpy, which the package does not require for building",
        "add numpy to requires under [build-system] in its pyproject.toml",
    ),
    (
        "ERROR: No matching distribution found for numpy==1.13.3",
        FailureClass.DEPENDENCY_UNAVAILABLE,
        "the requirement numpy==1.13.3 cannot be had",
        "",
    ),
    (
        "ModuleNotFoundError: No module named 'numpy'",
        FailureClass.SOURCE_ERROR,
        "the build needs the module numpy, which the package does not require for building",
        "add numpy to requires under [build-system] in its pyproject.toml",
    ),
    (
        "ModuleNotFoundError: No module named 'imp'",
        FailureClass.UNSUPPORTED,
        "it imports imp, which this Python no longer has",
        "",
    ),
    (
        "RuntimeError: Cannot install on Python 3.12; only versions >=3.6,<3.10 are supported.",
        FailureClass.UNSUPPORTED,
        "RuntimeError: Cannot install on Python 3.12; only versions >=3.6,<3.10 are supported.",
        "",
    ),
    (
        "c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
        FailureClass.OUT_OF_MEMORY,
        "memory ran out: c++: fatal error: Killed signal terminated program cc1plus",
        "build it on a larger slave",
    ),
    (
        "cc1: error: No space left on device",
        FailureClass.DISK_FULL,
        "no space was left on the slave's disk or in /tmp",
        "give the slave more disk",
    ),
    (
        "a.c:12:3: error: 'x' undeclared\nerror: command '/usr/bin/gcc' failed with exit code 1",
        FailureClass.SOURCE_ERROR,
        "a.c:12:3: 'x' undeclared",
        "",
    ),
    (
        "Traceback (most recent call last):\n  File 'setup.py'\nKeyError: 'VERSION'",
        FailureClass.SOURCE_ERROR,
        "KeyError: 'VERSION'",
        "",
    ),
]


@pytest.mark.parametrize(("log", "kind", "cause", "fix"), LOGS, ids=[row[0][:40] for row in LOGS])
def test_a_log_gives_its_reason_away(log, kind, cause, fix):
    failure = classify(log)
    assert (failure.kind, failure.cause, failure.fix) == (kind, cause, fix)


# The last words of old releases, and of small ones made for the purpose, under today's tools.
OUTDATED = [
    "ModuleNotFoundError: No module named 'distutils.msvccompiler'",  # thinc 7.4.0
    "ModuleNotFoundError: No module named 'numpy.distutils'",  # on Python 3.12
    "ModuleNotFoundError: No module named 'setuptools.command.test'",
    "ImportError: cannot import name 'Feature' from 'setuptools' (/environment/lib/__init__.py)",
    "ImportError: cannot import name 'build_py_2to3' from 'distutils.command.build_py' (/x.py)",
    "error in demjson setup command: use_2to3 is invalid.",  # demjson 2.2.4
    "error in x setup command: 'extras_require' must be a dictionary whose values are strings",
    "packaging.version.InvalidVersion: Invalid version: '1.0-foo-bar'",
    "error: Multiple top-level packages discovered in a flat-layout: ['b', 'a'].",
    "AttributeError: 'build_ext' object has no attribute 'cython_sources'",  # PyYAML 5.4.1
    "AttributeError: module 'numpy' has no attribute 'int'.",
    "NameError: name 'CCompiler' is not defined. Did you mean: 'ccompiler'?",  # numpy 1.16.6
    "TypeError: Compiler.__init__() takes from 1 to 3 positional arguments but 4 were given",
    "src/gevent/libev/corecext.pyx:59:26: undeclared name not builtin: long",  # gevent 1.5.0
    "Cython.Compiler.Errors.CompileError: src/_mssql.pyx",  # pymssql 2.1.5
    "x.c:2:10: fatal error: numpy/noprefix.h: No such file or directory",
    "x.c:3:35: error: ‘PyArray_Descr’ {aka ‘struct _PyArray_Descr’} has no member named ‘names’",
]


@pytest.mark.parametrize("log", OUTDATED, ids=[line[:60] for line in OUTDATED])
def test_what_older_tools_would_build_is_told_apart(log):
    failure = classify(log)
    assert failure.kind is FailureClass.LEGACY_TOOLS
    assert failure.fix == "build it again with the build tools of its release date"


def test_remarks_of_cython_are_no_errors():
    log = "performance hint: a.pyx:1:0: slow\nwarning: a.pyx:2:0: odd\nValueError: no"
    assert classify(log).cause == "ValueError: no"


def test_a_requirement_that_a_build_cannot_install_is_what_it_needs():
    assert classify("ERROR: No matching distribution found for Foo_Bar==1").needs == "foo-bar"
    assert classify("error: whatever").needs == ""


def test_a_failed_compiler_is_not_a_missing_one():
    failure = classify("error: command '/usr/bin/gcc' failed with exit code 1")
    assert failure.kind is FailureClass.SOURCE_ERROR


def test_a_missing_header_tells_more_than_the_exception_after_it():
    log = "a.c:1: fatal error: ffi.h: No such file or directory\nValueError: build failed"
    assert classify(log).fix == "apt install libffi-dev"


def test_the_last_of_several_errors_counts():
    log = "a.c:1:1: error: first\nretrying\nb.c:2:2: error: second"
    assert classify(log).cause == "b.c:2:2: second"


NETWORK = "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>"


def test_a_name_that_cannot_be_resolved_means_that_the_build_needs_network():
    assert classify(NETWORK).kind is FailureClass.NEEDS_NETWORK


def test_a_build_that_had_network_does_not_need_it():
    assert classify(NETWORK, network=True).kind is FailureClass.SOURCE_ERROR


def test_terminal_colours_do_not_hide_an_error():
    log = "\x1b[1msrc/lib.rs\x1b[0m\n\x1b[31merror\x1b[0m: \x1b[1mmismatched types\x1b[0m"
    assert classify(log).cause == "mismatched types"


@given(st.text(), st.booleans())
def test_every_log_gives_one_line(log, network):
    failure = classify(log, network=network)
    assert failure.cause
    for line in (failure.cause, failure.fix):
        assert len(line) <= 200
        assert line == "" or line.isprintable()


words = st.sampled_from(
    ["error:", "fatal error:", "No module named '", "x.h", "'", "command", "gcc", "{", "}", "\n"]
)


@given(st.lists(words | st.text(max_size=5)).map(" ".join))
def test_text_that_looks_like_a_log_gives_one_line(log):
    assert classify(log).cause.isprintable()


@given(st.text(), st.integers(1, 300))
def test_a_line_keeps_its_length_and_holds_no_control_characters(text, longest):
    line = one_line(text, longest)
    assert len(line) <= longest
    assert line.isprintable()


def test_every_class_has_a_consequence():
    assert set(CONSEQUENCES) == set(FailureClass)


def test_infrastructure_is_never_the_packages_fault():
    slaves = (FailureClass.DISK_FULL, FailureClass.SANDBOX, FailureClass.SLAVE_LOST)
    assert {CONSEQUENCES[kind].blame for kind in slaves} == {Blame.SLAVE}
    passing = (FailureClass.INDEX_UNAVAILABLE, FailureClass.FETCH_FAILED)
    assert {CONSEQUENCES[kind].blame for kind in passing} == {Blame.NOBODY}


def test_a_source_error_is_final_at_once():
    assert CONSEQUENCES[FailureClass.SOURCE_ERROR].final
    assert next_try(FailureClass.SOURCE_ERROR, 1, 0.5) is None


def test_what_was_too_large_is_tried_once_more_on_a_larger_slave():
    assert CONSEQUENCES[FailureClass.OUT_OF_MEMORY].remedy is Remedy.LARGER
    assert next_try(FailureClass.OUT_OF_MEMORY, 1, 0.0) is not None
    assert next_try(FailureClass.OUT_OF_MEMORY, 2, 0.0) is None


def test_a_degraded_wheel_is_held_and_not_final():
    consequence = CONSEQUENCES[FailureClass.DEGRADED_WHEEL]
    assert consequence.hold
    assert not consequence.final


@given(st.sampled_from(FailureClass), st.integers(1, 10_000), st.floats(0, 1))
def test_the_next_try_is_never_sooner_for_waiting_longer(kind, attempts, jitter):
    delay = next_try(kind, attempts, jitter)
    later = next_try(kind, attempts + 1, jitter)
    if later is not None:
        assert delay is not None
        assert timedelta(0) <= delay <= later


@given(st.sampled_from(FailureClass), st.floats(0, 1))
def test_attempts_come_to_an_end(kind, jitter):
    assert next_try(kind, CONSEQUENCES[kind].attempts, jitter) is None
