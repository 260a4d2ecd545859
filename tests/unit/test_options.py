import argparse
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.cli import options
from piwheels.cli.options import (
    BadConfiguration,
    BadUsage,
    Parser,
    add_queue,
    add_yes,
    address,
    confirm,
    duration,
    private_directory,
    queue_address,
    run,
    runtime_directory,
    set_up_logging,
    size,
)
from piwheels.model.errors import PiwheelsError


def builder_parser():
    parser = Parser("piw-builder", "Build.")
    parser.add_argument("-m", "--master", default="localhost")
    parser.add_argument("--timeout", type=duration, default=3.0)
    parser.add_argument("--label", action="append")
    parser.add_argument("--colour", choices=["red", "blue"])
    add_queue(parser, "import", "of tools")
    add_yes(parser)
    return parser


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "piwheels.conf"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def no_files(monkeypatch):
    monkeypatch.setattr(options, "DEFAULT_FILES", ())


def parse(*arguments, environment=()):
    return builder_parser().parse(arguments, dict(environment))


def test_a_command_without_any_source_has_its_defaults(no_files):
    assert parse().master == "localhost"


def test_a_file_gives_what_the_section_of_the_command_says(write):
    file = write("[builder]\nmaster = pi\n[other]\nmaster = no\n")
    assert parse("-c", str(file)).master == "pi"


def test_the_section_of_the_command_wins_over_the_default_section(write):
    file = write("[DEFAULT]\nmaster = everybody\ntimeout = 2h\n[builder]\nmaster = pi\n")
    found = parse("-c", str(file))
    assert (found.master, found.timeout) == ("pi", 7200.0)


def test_the_environment_wins_over_files_and_the_command_line_over_both(write):
    file = write("[builder]\nmaster = file\ntimeout = 1m\n")
    environment = {"PIW_MASTER": "environment", "PIW_TIMEOUT": "2m"}
    found = parse("-c", str(file), "--master", "line", environment=environment)
    assert (found.master, found.timeout) == ("line", 120.0)


def test_of_two_default_files_the_later_wins(tmp_path, monkeypatch):
    general, own = tmp_path / "general.conf", tmp_path / "own.conf"
    general.write_text("[builder]\nmaster = general\ntimeout = 1m\n")
    own.write_text("[builder]\nmaster = own\n")
    monkeypatch.setattr(options, "DEFAULT_FILES", (str(general), str(own)))
    found = parse()
    assert (found.master, found.timeout) == ("own", 60.0)


def test_a_configuration_file_replaces_the_default_ones(tmp_path, monkeypatch, write):
    general = tmp_path / "general.conf"
    general.write_text("[builder]\nmaster = general\n")
    monkeypatch.setattr(options, "DEFAULT_FILES", (str(general),))
    assert parse("-c", str(write("[builder]\ntimeout = 1m\n"))).master == "localhost"


def test_a_configuration_file_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(BadConfiguration, match=r"no configuration file .*absent\.conf"):
        parse("-c", str(tmp_path / "absent.conf"))


def test_an_unknown_key_in_the_command_s_own_section_names_the_nearest_option(write):
    with pytest.raises(BadConfiguration, match=r"no option mastr; did you mean master\?"):
        parse("-c", str(write("[builder]\nmastr = pi\n")))


def test_an_unknown_key_that_resembles_none_lists_the_options(write):
    with pytest.raises(BadConfiguration, match=r"there are .*label, log-file, master"):
        parse("-c", str(write("[builder]\nxyzzy = 1\n")))


def test_an_unknown_key_in_the_default_section_is_another_command_s(write):
    assert parse("-c", str(write("[DEFAULT]\ndsn = postgresql:///x\n"))).master == "localhost"


def test_an_unknown_key_in_another_section_is_another_command_s(write):
    assert parse("-c", str(write("[master]\ndsn = postgresql:///x\n"))).master == "localhost"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("timeout = soon", "timeout: 'soon' is not a duration"),
        ("yes = maybe", "yes is yes or no, not 'maybe'"),
        ("colour = green", "colour is one of red, blue, not 'green'"),
        ("import-queue = udp://x", "'udp://x' is not an address"),
    ],
)
def test_a_bad_value_in_a_file_names_the_file_and_the_option(write, line, complaint):
    file = write(f"[builder]\n{line}\n")
    with pytest.raises(BadConfiguration, match=complaint) as caught:
        parse("-c", str(file))
    assert str(file) in str(caught.value)


def test_a_bad_value_in_the_environment_names_the_variable(no_files):
    with pytest.raises(BadConfiguration, match="PIW_TIMEOUT in the environment"):
        parse(environment={"PIW_TIMEOUT": "soon"})


@pytest.mark.parametrize(
    "text", ["master = pi\n", "[builder\n", "[builder]\nmaster = a\nmaster = b\n"]
)
def test_a_file_that_cannot_be_read_is_an_error_of_the_configuration(write, text):
    with pytest.raises(BadConfiguration, match=r"cannot read .*piwheels\.conf"):
        parse("-c", str(write(text)))


def test_a_file_that_is_no_text_is_an_error_of_the_configuration(tmp_path):
    (tmp_path / "odd.conf").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadConfiguration, match=r"cannot read .*odd\.conf"):
        parse("-c", str(tmp_path / "odd.conf"))


def test_an_option_that_may_be_repeated_takes_the_lines_of_a_value(write):
    file = write("[builder]\nlabel =\n    one\n    two\nyes = on\n")
    found = parse("-c", str(file))
    assert (found.label, found.yes) == (["one", "two"], True)


def test_a_flag_may_be_turned_off_in_a_file(write):
    assert parse("-c", str(write("[builder]\nyes = no\n"))).yes is False


def test_percent_signs_in_a_file_mean_themselves(write):
    assert parse("-c", str(write("[builder]\nmaster = 100%s\n"))).master == "100%s"


def test_a_configuration_file_hidden_among_short_options_is_refused(write, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("-yc", str(write("[builder]\n")))
    assert ended.value.code == 2
    assert "apart from other short options" in capsys.readouterr().err


def test_an_abbreviated_option_is_refused(no_files, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--mast", "pi")
    assert ended.value.code == 2


def test_help_is_given_even_with_a_broken_configuration(write, capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help", "-c", str(write("[builder\n")))
    assert ended.value.code == 0
    assert "--master" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        parse("--version")
    assert capsys.readouterr().out.strip() == options.__version__


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3h", 10800), ("90m", 5400), ("10s", 10), ("15", 15), ("1h30m", 5400), ("500ms", 0.5)],
)
def test_durations_are_read(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("512", 512), ("64k", 65536), ("1.5GiB", 1610612736), ("2G", 2 * 1024**3)],
)
def test_sizes_are_read(text, count):
    assert size(text) == count


@given(st.text(max_size=8), st.sampled_from([duration, size]))
def test_what_is_neither_a_duration_nor_a_size_is_refused_in_words(text, read):
    complaint = ""
    try:
        read(text)
    except argparse.ArgumentTypeError as error:
        complaint = str(error)
    assert complaint == "" or "write it as" in complaint


@given(st.integers(0, 10**6), st.sampled_from("smhdw"))
def test_a_duration_grows_with_its_number(number, unit):
    assert duration(f"{number + 1}{unit}") - duration(f"{number}{unit}") == duration(f"1{unit}")


def test_a_socket_s_path_may_have_as_many_bytes_as_the_kernel_takes(tmp_path):
    assert address("ipc://" + "/" * 107)
    with pytest.raises(argparse.ArgumentTypeError, match="108 bytes"):
        address("ipc://" + "/" * 108)


def test_a_runtime_directory_that_is_too_deep_is_an_error(tmp_path, monkeypatch, no_files):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(BadConfiguration, match="--import-queue"):
        queue_address(parse(), "import")


def test_a_queue_lies_in_a_directory_that_only_its_user_may_enter(tmp_path, monkeypatch, no_files):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert queue_address(parse(), "import") == f"ipc://{tmp_path}/piwheels/import-queue"
    assert (tmp_path / "piwheels").stat().st_mode & 0o777 == 0o700


def test_a_queue_s_address_that_is_given_is_taken(no_files):
    found = parse("--import-queue", "tcp://127.0.0.1:7000")
    assert queue_address(found, "import") == "tcp://127.0.0.1:7000"


def test_a_runtime_directory_is_used_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_directory() == runtime_directory()


def test_a_runtime_directory_that_is_a_link_is_refused(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "piwheels").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(BadConfiguration, match="not this user's own"):
        runtime_directory()


def test_a_runtime_directory_that_others_may_write_to_is_refused(tmp_path, monkeypatch):
    (tmp_path / "piwheels").mkdir()
    (tmp_path / "piwheels").chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(BadConfiguration, match="others may write"):
        runtime_directory()


def test_a_private_directory_of_another_user_is_refused(tmp_path):
    """Root makes one that is somebody's; anybody else finds one that is root's."""
    directory = Path("/usr")
    if os.geteuid() == 0:
        directory = tmp_path
        os.chown(directory, 65534, 65534)
    with pytest.raises(BadConfiguration, match="not this user's own"):
        private_directory(directory)


def test_without_a_place_for_sockets_the_error_names_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    with pytest.raises(BadConfiguration, match="set XDG_RUNTIME_DIR"):
        runtime_directory()


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PiwheelsError("no"), 1),
        (BadUsage("no"), 2),
        (BadConfiguration("no"), 78),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_is_foreseen_ends_with_its_own_status(error, status, capsys):
    assert run(raising(error)) == status


def test_an_error_s_text_is_one_line(capsys):
    run(raising(PiwheelsError("it is\nbroken")))
    assert capsys.readouterr().err.splitlines()[-1].endswith(": it is broken")


def test_a_command_that_succeeds_ends_with_nought():
    assert run(lambda: None) == 0


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def python(text, **details):
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, **details
    )


def test_a_reader_that_goes_away_is_no_reason_to_complain():
    reader, writer = socket.socketpair()
    reader.close()
    with writer:
        ended = subprocess.run(
            [
                sys.executable,
                "-c",
                "from piwheels.cli.options import run; raise SystemExit(run(lambda: print('x')))",
            ],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (141, b"")


LOGGING = """
import argparse, logging
from piwheels.cli.options import set_up_logging
set_up_logging(argparse.Namespace(quiet=False, verbose=False, log_file=None), "tracker")
try:
    1 / 0
except ZeroDivisionError:
    logging.exception("it is\\nbroken")
"""


def test_an_event_is_one_line_with_its_time_and_service():
    (line,) = python(LOGGING).stderr.splitlines()
    time, rest = line.split(" ", 1)
    assert time.endswith("Z")
    assert rest.startswith("tracker ERROR it is | broken | Traceback")


def test_the_journal_is_told_no_times(tmp_path):
    with (tmp_path / "journal").open("w+") as journal:
        found = os.fstat(journal.fileno())
        environment = os.environ | {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        command = [sys.executable, "-c", LOGGING]
        subprocess.run(command, stderr=journal, env=environment, check=True)
        journal.seek(0)
        assert journal.read().startswith("tracker ERROR it is | broken")


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.parametrize(
    ("flags", "level"), [((), "INFO"), (("-q",), "WARNING"), (("-v",), "DEBUG")]
)
def test_quiet_and_verbose_set_what_is_logged(no_files, root_logger, flags, level):
    set_up_logging(parse(*flags), "master")
    assert logging.getLevelName(root_logger.level) == level


def test_a_log_file_holds_the_events(no_files, root_logger, tmp_path):
    set_up_logging(parse("-l", str(tmp_path / "log")), "master")
    root_logger.warning("hello")
    assert (tmp_path / "log").read_text().endswith("Z master WARNING hello\n")


def test_a_log_file_that_cannot_be_written_is_an_error_of_the_configuration(no_files, tmp_path):
    with pytest.raises(BadConfiguration, match="cannot write the log file"):
        set_up_logging(parse("-l", str(tmp_path / "absent" / "log")), "master")


def test_nobody_is_asked_who_cannot_answer(monkeypatch):
    with open(os.devnull) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        with pytest.raises(BadUsage, match="say --yes"):
            confirm("Go on?", is_sure=False)


def test_nobody_is_asked_who_is_sure():
    assert confirm("Go on?", is_sure=True)
