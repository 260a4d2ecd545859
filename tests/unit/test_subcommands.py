"""Options of a command that does several things: anywhere on the line, in files, in the air."""

import pytest

from piwheels.cli import slaves, target

QUEUE = "ipc:///run/there"


@pytest.fixture
def parse(tmp_path):
    """Parse with a file in place of those of this host, and this environment."""

    def parse(*words, text="", **environment):
        file = tmp_path / "piwheels.conf"
        file.write_text(text)
        return target.parser().parse(["-c", str(file), *words], environment)

    return parse


@pytest.mark.parametrize(
    "words",
    [("--import-queue", QUEUE, "--json", "list"), ("list", "--import-queue", QUEUE, "--json")],
)
def test_options_may_stand_before_or_after_the_action(parse, words):
    options = parse(*words)
    assert (options.action, options.import_queue, options.json) == ("list", QUEUE, True)


def test_an_action_forgets_nothing_that_files_and_environment_say(parse):
    options = parse("list", text="[target]\nwait = 5s\n", PIW_IMPORT_QUEUE=QUEUE)
    assert (options.wait, options.import_queue, options.yes) == (5.0, QUEUE, False)


def test_the_command_line_wins_wherever_it_says_it(parse):
    assert parse("list", "--wait", "7s", text="[target]\nwait = 5s\n").wait == 7.0
    assert parse("--wait", "7s", "list", text="[target]\nwait = 5s\n").wait == 7.0


@pytest.mark.parametrize("words", [(), ("dance",), ("skip", "cp311", "six")])
def test_without_an_action_or_what_it_needs_nothing_is_done(parse, words):
    with pytest.raises(SystemExit) as ended:
        parse(*words)
    assert ended.value.code == 2


def test_to_drain_now_is_to_kill(tmp_path):
    file = tmp_path / "none.conf"
    file.touch()
    options = slaves.parser().parse(["-c", str(file), "drain", "pi", "--now"], {})
    assert type(slaves.read_request(options)).__name__ == "Kill"
