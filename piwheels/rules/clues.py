"""The lines of a build log that give the reason of a failure away."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from re import Match, Pattern

from piwheels.model.builds import FailureClass
from piwheels.rules.system_packages import (
    TOOLS,
    package_of_cmake_package,
    package_of_header,
    package_of_library,
    package_of_module,
    package_of_tool,
)

Explain = Callable[[Match[str]], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Clue:
    """A line that gives a class of failure away; explain: from its match to (cause, fix)."""

    kind: FailureClass
    pattern: Pattern[str]
    explain: Explain


def _clue(kind: FailureClass, pattern: str, explain: Explain) -> Clue:
    return Clue(kind, re.compile(pattern), explain)


def _any_of(names: Iterable[str]) -> str:
    return "(?:" + "|".join(sorted(map(re.escape, names), key=lambda n: (-len(n), n))) + ")"


def _install(package: str) -> str:
    return f"apt install {package}" if package else ""


def _as_printed(fix: str = "") -> Explain:
    return lambda found: (found.string.strip(), fix)


def _said(cause: str, fix: str = "") -> Explain:
    return lambda found: (cause.format(**found.groupdict()), fix.format(**found.groupdict()))


def _prefixed(prefix: str, fix: str = "") -> Explain:
    return lambda found: (f"{prefix}: {found.string.strip()}", fix)


def _missing_header(found: Match[str]) -> tuple[str, str]:
    header = found["header"]
    return f"the header {header} is missing", _install(package_of_header(header))


def _missing_library(found: Match[str]) -> tuple[str, str]:
    library = found["library"]
    return f"the library {library} is missing", _install(package_of_library(library))


def _missing_tool(found: Match[str]) -> tuple[str, str]:
    tool = found["tool"].rsplit("/", 1)[-1]
    return f"the tool {tool} is missing", _install(package_of_tool(tool))


def _missing_requirement(found: Match[str]) -> tuple[str, str]:
    requirement = found["requirement"] or found["parsed"]
    return f"the requirement {requirement} cannot be had", ""


def _missing_module(found: Match[str]) -> tuple[str, str]:
    module = found["module"]
    cause = f"pkg-config does not know {module}: its development files are missing"
    search = f"apt-file search {module}.pc names the package to install"
    return cause, _install(package_of_module(module)) or search


def _missing_cmake_package(found: Match[str]) -> tuple[str, str]:
    name = found["module"]
    cause = f"CMake cannot find {name}: its development files are missing"
    return cause, _install(package_of_cmake_package(name))


# Modules that setuptools or the standard library's distutils once had.
LEGACY_MODULES = (
    "pkg_resources",
    "distutils",
    "ez_setup",
    "numpy.distutils",
    "setuptools",
    "wheel",
)

# Modules that Python itself once had: since 2.7, and by PEP 594 and its like.
REMOVED_MODULES = (
    *("ConfigParser", "Queue", "StringIO", "__builtin__", "cPickle", "cStringIO", "commands"),
    *("httplib", "urllib2", "urlparse"),
    *("aifc", "asynchat", "asyncore", "audioop", "binhex", "cgi", "cgitb", "chunk", "crypt"),
    *("formatter", "imghdr", "imp", "lib2to3", "mailcap", "msilib", "nis", "nntplib"),
    *("ossaudiodev", "parser", "pipes", "smtpd", "sndhdr", "spwd", "sunau", "symbol"),
    *("telnetlib", "uu", "xdrlib"),
)

# Python's own headers that it no longer has, or no longer has there.
REMOVED_HEADERS = (
    *("asdl.h", "eval.h", "graminit.h", "grammar.h", "longintrepr.h", "node.h", "parsetok.h"),
    *("Python-ast.h", "pyarena.h", "symtable.h", "ucnhash.h"),
)

NOT_REQUIRED = (
    "the build needs the module {module}, which the package does not require for building"
)
ADD_REQUIREMENT = "add {module} to requires under [build-system] in its pyproject.toml"
ALLOW_NETWORK = "allow this package network while building, if you trust it"
ERA = "build it again with the build tools of its release date"
LARGER = "build it on a larger slave"
NO_MODULE = r"(?:ModuleNotFoundError|ImportError): No module named '?"
TOOL = rf"(?P<tool>(?:/[\w./-]{{1,80}}/)?{_any_of(TOOLS)})"

SHORTAGES = (
    _clue(
        FailureClass.DISK_FULL,
        r"(?i)no space left on device|disk quota exceeded",
        _said("no space was left on the slave's disk or in /tmp", "give the slave more disk"),
    ),
    _clue(
        FailureClass.OUT_OF_MEMORY,
        r"(?i)fatal error: killed signal|\bkilled\b.{0,80}\bcc1|(?:error|fatal|cc1\w*|ld|rustc):"
        r".{0,80}out of memory|^\s*out of memory\b|virtual memory exhausted|cannot allocate memory"
        r"|^memoryerror\b|std::bad_alloc|\(signal: 9, SIGKILL|^killed$",
        _prefixed("memory ran out", LARGER),
    ),
    _clue(
        FailureClass.NEEDS_NETWORK,
        r"(?i)temporary failure in name resolution|name or service not known|could not resolve host"
        r"|no address associated with hostname|network is unreachable|getaddrinfo (?:EAI_AGAIN"
        r"|ENOTFOUND|failed)|failed to (?:lookup address|resolve)|dial tcp: lookup"
        r"|unable to resolve host|couldn't resolve host|NameResolutionError",
        _prefixed("the build wants the network", ALLOW_NETWORK),
    ),
)


def _tool_clues(*patterns: str) -> tuple[Clue, ...]:
    return tuple(_clue(FailureClass.MISSING_TOOL, f"(?i){p}", _missing_tool) for p in patterns)


# Headers that only look like the system's.
OUTGROWN = (
    _clue(
        FailureClass.UNSUPPORTED,
        rf"fatal error: '?(?P<header>{_any_of(REMOVED_HEADERS)})'?[: ]\s?(?:No such|file not)",
        _said("its C code needs {header}, which this Python no longer has"),
    ),
    _clue(
        FailureClass.LEGACY_TOOLS,
        r"fatal error: '?(?P<header>numpy/(?:noprefix|oldnumeric|fenv/\w+)\.h)'?[: ]",
        _said("it needs {header}, which today's numpy no longer has", ERA),
    ),
    _clue(
        FailureClass.SOURCE_ERROR,
        r"fatal error: '?(?P<module>numpy|pybind11|nanobind|greenlet)/[\w./]{1,80}'?[: ]",
        _said(NOT_REQUIRED, ADD_REQUIREMENT),
    ),
)

MISSING = (
    _clue(
        FailureClass.MISSING_TOOL,
        r"Can not find valid pkg-config name",
        _said("pkg-config knows no MySQL or MariaDB", "apt install libmariadb-dev pkg-config"),
    ),
    _clue(
        FailureClass.MISSING_TOOL,
        r"fatal error: '?(?P<header>[\w./+-]{1,120}\.(?:h|hh|hpp|hxx|H)|Eigen/\w{1,40})'?"
        r"[: ]\s?(?:No such file|file not found)",
        _missing_header,
    ),
    _clue(FailureClass.MISSING_TOOL, r"cannot find -l(?P<library>[\w.+-]{1,80})", _missing_library),
    *_tool_clues(
        rf"command '{TOOL}' failed: No such file",
        rf"No such file or directory: ['\"]{TOOL}['\"]",
        rf"unable to execute '{TOOL}'",
        rf"(?:can't|cannot|could not|unable to|failed to) (?:find|locate|run|execute)"
        rf"(?: program| the)? ['\"`]?{TOOL}"
        r"(?=['\"`.,!:;)]|\s*$|\s(?:executable|command|program|compiler|binary|tool|in|on)\b)",
        rf"(?:^|[\s'\"`:/]){TOOL}['\"`]?(?: executable|:)?(?: command)? (?:is |was )?"
        r"(?:not found|no such file|not installed|missing)",
    ),
    _clue(
        FailureClass.MISSING_TOOL,
        r"(?i)can(?:'|no)t find rust compiler|rust toolchain .{0,40}(?:required|not found)"
        r"|requires rust\b",
        _said("the Rust compiler is missing", "apt install cargo rustc"),
    ),
    _clue(
        FailureClass.MISSING_TOOL,
        r"(?i)no acceptable C compiler|Unknown compiler\(s\)|C compiler cannot create executables"
        r"|No CMAKE_C(?:XX)?_COMPILER could be found",
        _said("no working C compiler was found", "apt install build-essential"),
    ),
    _clue(
        FailureClass.MISSING_TOOL,
        r"requires rustc [\d.]+ or newer|rustc [\d.]+ is not supported"
        r"|feature `edition\d+` is required|lock file version .{0,40}not understood",
        _as_printed("install a newer Rust compiler on the slave"),
    ),
    _clue(
        FailureClass.MISSING_TOOL,
        r"(?:Package|Dependency) ['\"]?(?P<module>[\w.+-]{1,80})['\"]?,?"
        r" (?:was not found in the pkg-config|required by|not found, tried pkg-?config)",
        _missing_module,
    ),
    _clue(
        FailureClass.MISSING_TOOL,
        # "-- Could NOT find" at the start of a line is only a remark.
        r"(?:Could not find a package configuration file provided by ['\"]|^\s+Could NOT find )"
        r"(?P<module>[\w.+-]{1,80})",
        _missing_cmake_package,
    ),
)

UNSUPPORTED = (
    _clue(
        FailureClass.UNSUPPORTED,
        r"(?i)requires a different python|requires python ?['\"]?[<>=!~\d]|python (?:version )?"
        r"[<>=]{0,2} ?\d[\d.]{0,8} (?:or (?:later|newer|higher|above) )?is (?:required|needed)"
        r"|not? support(?:ed)? (?:for |on |by |in )?(?:this |your )?python|unsupported python"
        r"|python (?:version )?\d[\d.]{0,8} (?:is not|isn't) supported"
        r"|only (?:supports|works (?:on|with)) python|python 2 only"
        r"|only versions [>=<\d., ]{1,40} are supported"
        r"|newer than .{0,60}maximum supported version",
        _as_printed(),
    ),
    _clue(
        FailureClass.UNSUPPORTED,
        r"(?i)(?:unsupported|not supported on this) (?:platform|operating system|architecture)"
        r"|only (?:supports|supported on|works on|available (?:on|for)|for) (?:windows|mac ?os)"
        r"|#error.{0,80}(?:architecture|platform)|(?:requires|needs) (?:windows|mac ?os)\b",
        _as_printed(),
    ),
    _clue(
        FailureClass.UNSUPPORTED,
        r"SyntaxError: Missing parentheses in call to|TabError: inconsistent use of tabs"
        r"|NameError: name '(?:unicode|xrange|raw_input|basestring|execfile|file|reload)'",
        _prefixed("written for Python 2"),
    ),
    _clue(
        FailureClass.UNSUPPORTED,
        rf"{NO_MODULE}(?P<module>{_any_of(REMOVED_MODULES)})\b",
        _said("it imports {module}, which this Python no longer has"),
    ),
    _clue(
        FailureClass.UNSUPPORTED,
        r"AttributeError: module '(?P<module>configparser|inspect|collections|asyncio|ast|locale"
        r"|platform|pkgutil|unittest|time|string|os|sys)' has no attribute '(?P<attribute>\w+)'",
        _said("it uses {module}.{attribute}, which this Python no longer has"),
    ),
    _clue(
        FailureClass.UNSUPPORTED,
        r"error: .(?:struct )?(?P<struct>Py(?!Array)\w{1,40}|_ts|_frame|_is)\b.{0,60} has no member"
        r" named .(?P<member>\w{1,60})",
        _said("its C code uses {struct}.{member}, which this Python no longer has"),
    ),
)

LEGACY = (
    _clue(
        FailureClass.LEGACY_TOOLS,
        r"^(?P<where>[^\s:]{1,200}\.(?:pyx|pxd|pxi):\d{1,7}:\d{1,7}): (?P<what>.{1,300})",
        _said("Cython refuses {where}: {what}", ERA),
    ),
    _clue(FailureClass.LEGACY_TOOLS, r"Cython\.Compiler\.Errors\.\w+", _as_printed(ERA)),
    _clue(
        FailureClass.LEGACY_TOOLS,
        r"error: .PyArray\w{0,40}.{0,60} has no member named"
        r"|AttributeError: (?:module '(?:numpy|np|Cython)[\w.]{0,60}'"
        r"|'(?:build|build_\w{1,10}|sdist|egg_info|install|install_\w{1,10}|bdist_\w{1,10}|test"
        r"|Distribution)' object) has no attribute"
        r"|NameError: name 'CCompiler'|TypeError: (?:CC|C)ompiler\.__init__\(\)",
        _as_printed(ERA),
    ),
    _clue(
        FailureClass.LEGACY_TOOLS,
        rf"{NO_MODULE}(?P<module>{_any_of(LEGACY_MODULES)}(?:\.[\w.]{{1,80}})?)(?!\w)",
        _said("it needs {module}, which today's build tools no longer have", ERA),
    ),
    _clue(
        FailureClass.LEGACY_TOOLS,
        r"cannot import name '(?P<name>\w{1,80})' from"
        r" '(?P<module>(?:setuptools|pkg_resources|wheel|distutils)[\w.]{0,80})'",
        _said("it needs {module}.{name}, which today's build tools no longer have", ERA),
    ),
    _clue(
        FailureClass.LEGACY_TOOLS,
        r"use_2to3 is invalid|invalid command '(?:bdist_wheel|test|upload_docs|build_py2to3)'"
        r"|AttributeError: module '(?:setuptools|distutils|pkg_resources)[\w.]{0,60}' has no"
        r"|error in .{1,80} setup command: |setuptools\.errors\.InvalidConfigError"
        r"|InvalidVersion: Invalid version|InvalidRequirement: "
        r"|Multiple top-level (?:packages|modules) discovered in a flat-layout",
        _as_printed(ERA),
    ),
)

SOURCE = (
    _clue(
        FailureClass.SOURCE_ERROR,
        rf"{NO_MODULE}(?P<module>\w{{1,100}})",
        _said(NOT_REQUIRED, ADD_REQUIREMENT),
    ),
    _clue(
        FailureClass.SOURCE_ERROR,
        r"^(?P<where>[^\s:][^:]{0,200}:\d{1,7}(?::\d{1,7})?):"
        r" (?:fatal )?error: (?P<what>.{1,300})",
        _said("{where}: {what}"),
    ),
    _clue(
        FailureClass.SOURCE_ERROR,
        r"^error(?:\[E\d{4}\])?: (?P<what>(?!command |aborting|could not compile|subprocess)"
        r".{1,300})",
        _said("{what}"),
    ),
)

# An installer that the build runs by itself. What the slave installs: see rules.unsatisfied.
UNAVAILABLE = (
    _clue(
        FailureClass.DEPENDENCY_UNAVAILABLE,
        r"No matching distribution found for (?P<requirement>[\w.\[\]<>=!~,-]{1,200})"
        r"|suitable distribution for Requirement\.parse\('(?P<parsed>[^']{1,200})",
        _missing_requirement,
    ),
)

# From the most to the least telling: what was lacking, then what does not fit, then what is wrong.
CLUES = (*SHORTAGES, *OUTGROWN, *MISSING, *UNAVAILABLE, *UNSUPPORTED, *LEGACY, *SOURCE)
