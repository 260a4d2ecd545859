"""A receiver in a process of its own, which a test may kill, starve or make kill itself."""

import argparse
import itertools
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from piwheels.database.connection import connect
from piwheels.master.receiver import Receiver
from piwheels.processes.prctl import die_with_parent

STEPS = {"open", "os.link", "os.mkdir", "os.remove", "os.rename"}


class ReceiverProcess:
    """Listens at *address*, once it is ready.

    dies: it kills itself before its first step, the next one before its second, and so on.
    largest_write: bytes that a file of it may have.
    """

    def __init__(self, farm, folder, address, dies=False, largest_write=0):
        self.deaths_file = folder / "deaths"
        command = [sys.executable, "-m", "tests.wire.receiver_process", farm.dsn, str(folder)]
        command += [address, f"--largest-write={largest_write}", f"--parent={os.getpid()}"]
        command += ["--dies"] if dies else []
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def deaths(self):
        """How many receivers killed themselves."""
        return self.deaths_file.stat().st_size if self.deaths_file.exists() else 0

    def peak_memory(self):
        """Bytes of resident memory at the most, so far."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise LookupError("VmHWM")


def kill_self_at(step, folder):
    """Die before the step with this number that touches a file below *folder*."""
    steps = itertools.count(1)

    def hook(event, arguments):
        if event in STEPS and str(arguments[0]).startswith(folder) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def die_at_each_step(folder):
    """Return in a new process, once for each step there is, which ends at that step."""
    for step in itertools.count(1):
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            die_with_parent(parent, signal.SIGKILL)
            kill_self_at(step, str(folder))
            return
        os.waitpid(child, 0)
        with (folder / "deaths").open("ab") as deaths:
            deaths.write(b".")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dsn")
    parser.add_argument("folder", type=Path)
    parser.add_argument("address")
    parser.add_argument("--dies", action="store_true")
    parser.add_argument("--largest-write", type=int)
    parser.add_argument("--parent", type=int)
    options = parser.parse_args()
    die_with_parent(options.parent, signal.SIGKILL)  # even where the test run is killed
    if options.largest_write:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.largest_write,) * 2)
    if options.dies:
        print("ready", flush=True)
        die_at_each_step(options.folder)
    receiver = Receiver(
        connect(options.dsn), options.folder / "tree", options.address, options.folder / "staging"
    )
    if not options.dies:
        print("ready", flush=True)
    receiver.serve(lambda: False, lambda: None)


if __name__ == "__main__":
    main()
