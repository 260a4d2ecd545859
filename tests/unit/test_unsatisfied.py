"""What installers say of a requirement that cannot be had, in their own words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.rules.unsatisfied import missing_package

SAID = [
    ("Because gone was not found in the package registry and you require gone>=1, we can", "gone"),
    (
        "Because zope-gone was not found in the provided package locations and all versions of"
        " upper depend on zope-gone, we can conclude",
        "zope-gone",
    ),
    (
        "Because only setuptools<=84.2.1 is available and you require setuptools>=99999",
        "setuptools",
    ),
    (
        "Because only lower<=2.0 is available and all versions of upper depend on lower>=3, we can"
        " conclude that all versions of upper cannot be used.",
        "lower",
    ),
    ("Because there are no versions of tool and you require tool, we can conclude", "tool"),
    ("Because there is no version of tool==1.2 and you require tool==1.2, we can", "tool"),
    ("Because all versions of mysqlclient have no usable wheels and you require", "mysqlclient"),
    ("Because numpy>=2.0.0 has no usable wheels and you require numpy>=2, we can", "numpy"),
    (
        "Because numpy{sys_platform != 'aix'}==1.17.3 has no usable wheels and you require"
        " numpy{sys_platform != 'aix'}==1.17.3, we can conclude",
        "numpy",
    ),
    (
        "Because zc.tool==1.0 has no wheels with a matching platform tag (e.g.,"
        " `manylinux_2_36_x86_64`) and only zc.tool==1.0 is available, we can conclude",
        "zc-tool",
    ),
    (
        "Because all of:\n             numpy<=1.9.3\n             numpy>=1.10.4,<=1.26.4\n"
        "          have no usable wheels and only the following versions of numpy are available:",
        "numpy",
    ),
    (
        "Because the current Python version (3.8.18) does not satisfy Python>=3.9 and all of:\n"
        "             setuptools>=76.0.0,<=80.2.0\n             setuptools>=80.3.1,<=80.6.0\n"
        "         depend on Python>=3.9, we can conclude",
        "setuptools",
    ),
    (
        "Because the current Python version (3.11.7) does not satisfy Python>=3.99 and tool==1.0"
        " depends on Python>=3.99, we can conclude that tool==1.0 cannot be used.",
        "tool",
    ),
    ("Because tool==1.0 was yanked (reason: bad) and you require tool==1.0, we can", "tool"),
    (
        "Because all versions of stale depend on tool<2 and you require stale, we can conclude that"
        " you require tool<2. And because you require tool>=2",
        "stale",
    ),
    ("Because you require tool<1.5 and tool>=2, we can conclude that your requirements are", ""),
    (
        "ERROR: Could not find a version that satisfies the requirement puccinialin"
        " (from versions: none)",
        "puccinialin",
    ),
    ("ERROR: No matching distribution found for Py_Tool==4.2", "py-tool"),
    (
        "distutils.errors.DistutilsError: Could not find suitable distribution for"
        " Requirement.parse('pytest-runner>=2.0,<3dev')",
        "pytest-runner",
    ),
    ("No local packages or working download links found for setuptools_scm", "setuptools-scm"),
    ("error: the network is down", ""),
]


@pytest.mark.parametrize(("said", "missing"), SAID, ids=[row[0][:50] for row in SAID])
def test_the_package_that_could_not_be_had_is_named(said, missing):
    assert missing_package(said) == missing


@given(st.text())
def test_whatever_is_said_is_read(said):
    assert isinstance(missing_package(said), str)
