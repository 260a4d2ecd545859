import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from piwheels.processes.descendants import Process, descendants, kill_tree, send
from piwheels.processes.prctl import become_subreaper

# Ends its main thread, and goes on in another.
HEADLESS = r"""
import ctypes, os, threading, time
threading.Thread(target=lambda: (os.write(1, b'up\n'), time.sleep(1000))).start()
ctypes.CDLL(None).pthread_exit(None)
"""

# Is never there for long: each process forks the next one, in a new session, and ends.
FLEETING = r"""
import os
os.write(1, b'up\n')
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""

CROWD = r"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(6):
    os.fork()
os.write(1, b'up\n')
time.sleep(1000)
"""

TREES = {
    "a child": ["sh", "-c", "sleep 1000 & echo up; wait"],
    "a child in its own session": ["sh", "-c", "setsid sleep 1000 & echo up; wait"],
    "a double fork": ["sh", "-c", "(setsid sh -c 'sleep 1000 & echo up; wait' &); exec sleep 1000"],
    "a stopped child": ["sh", "-c", "(kill -STOP $(exec sh -c 'echo $PPID')) & echo up; wait"],
    "a process without its main thread": ["sh", "-c", 'python -c "$0" & wait', HEADLESS],
    "a chain of forks": ["sh", "-c", 'python -c "$0"; exec sleep 1000', FLEETING],
    "a crowd that ignores SIGTERM": ["sh", "-c", 'python -c "$0" & wait', CROWD],
}


class Tree:
    """A process and all below it, each of which holds the other end of our pipe."""

    def __init__(self, words: list[str]) -> None:
        self.root = subprocess.Popen(
            [word.replace("python", sys.executable) for word in words],
            stdout=subprocess.PIPE,
            preexec_fn=become_subreaper,
            start_new_session=True,
        )
        assert self.root.stdout is not None
        self.output = self.root.stdout

    def grow(self) -> None:
        """Wait until the process that matters runs."""
        assert self.output.readline() == b"up\n"

    def is_gone(self) -> bool:
        """Whether no process is left, or none will be in a while."""
        while select.select([self.output], [], [], 30)[0]:
            if not self.output.read1():
                return True
        return False


@pytest.fixture
def plant() -> Iterator[type[Tree]]:
    """Trees that are gone after the test, whatever it did."""
    trees: list[Tree] = []

    def planted(words: list[str]) -> Tree:
        trees.append(Tree(words))
        trees[-1].grow()
        return trees[-1]

    yield planted
    for tree in trees:
        kill_tree(tree.root.pid)
        tree.root.wait()
        tree.output.close()


@pytest.mark.parametrize("words", TREES.values(), ids=TREES.keys())
def test_killing_a_tree_leaves_nothing_of_it(plant, words):
    tree = plant(words)
    kill_tree(tree.root.pid)
    assert tree.is_gone()
    assert tree.root.wait() == -signal.SIGKILL


def test_killing_a_tree_leaves_its_neighbour_alone(plant):
    doomed, spared = plant(TREES["a double fork"]), plant(TREES["a double fork"])
    before = descendants(spared.root.pid)
    kill_tree(doomed.root.pid)
    assert doomed.is_gone()
    assert spared.root.poll() is None
    assert descendants(spared.root.pid) == before
    assert len(before) == 2  # the shell that escaped, and its sleep


def test_killing_a_dead_tree_does_nothing(plant):
    tree = plant(["sh", "-c", "echo up"])
    tree.root.wait()
    kill_tree(tree.root.pid)
    assert tree.root.returncode == 0


def test_killing_what_is_no_descendant_does_nothing():
    kill_tree(os.getppid())
    assert Process.read(os.getppid()).is_alive


def test_a_later_process_with_the_same_pid_is_not_signalled(plant):
    tree = plant(["sh", "-c", "echo up; exec sleep 1000"])
    process = Process.read(tree.root.pid)
    earlier = Process(process.pid, process.started - 1, process.parent, "S", threads=1)
    send(earlier, signal.SIGKILL)
    send(process, signal.SIGTERM)
    assert tree.root.wait() == -signal.SIGTERM


def test_a_process_name_cannot_forge_what_is_read_of_it(tmp_path):
    program = tmp_path / "x) Z 1 (y"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "1000"]) as child:
        process = Process.read(child.pid)
        child.kill()
    assert (process.parent, process.is_alive) == (os.getpid(), True)


def test_there_is_nothing_to_read_of_a_process_that_is_gone():
    child = subprocess.Popen(["true"])
    child.wait()
    assert Process.read(child.pid) is None


ORPHANS = """
import os, subprocess, sys
from piwheels.processes.descendants import kill_orphans
from piwheels.processes.prctl import become_subreaper
become_subreaper()
spared = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE)
needed = int(spared.stdout.readline())
parent = subprocess.Popen(["sh", "-c", "setsid sleep 1000 & echo $!"], stdout=subprocess.PIPE)
orphan = int(parent.stdout.readline())
parent.wait()
kill_orphans({spared.pid})
alive = [os.path.exists(f"/proc/{pid}") for pid in (orphan, spared.pid, needed)]
kill_orphans(())
alive += [os.path.exists(f"/proc/{pid}") for pid in (orphan, spared.pid, needed)]
print(alive)
"""


def test_orphans_are_killed_and_reaped_and_the_spared_keep_their_children():
    answer = subprocess.run(
        [sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == str([False, True, True, False, False, False])
