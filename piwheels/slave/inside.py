"""The first process of a build inside a sandbox: runs one command and reports what it used.

Executed by the interpreter that is built for, so Python 3.8 has to understand it, and nothing
but the standard library is there.

Arguments: the file descriptor to report to, how far it may kill (see `end_the_rest`),
the resource limits as JSON, then the command.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from contextlib import suppress

SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Run the command; report {"status", "cpu_seconds", "peak_memory"} as a line of JSON."""
    descriptor, reach, limits, *command = arguments
    report = int(descriptor)
    os.set_inheritable(report, False)
    adopt_orphans()
    child = os.fork()
    if child == 0:
        become(command, json.loads(limits))
    status = wait_for(child)
    if reach == "everything":
        end_the_rest()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = {
        "status": status,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_memory": used.ru_maxrss * 1024,
    }
    os.write(report, json.dumps(answer).encode() + b"\n")
    if reach != "everything":
        signal.pause()  # to be found, with all its adopted children, and killed with them


def adopt_orphans() -> None:
    """Become the parent of every orphan among the descendants, to wait for it here."""
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def become(command: list[str], limits: dict[str, int]) -> None:
    """Turn this process into *command* under *limits* (name to value)."""
    try:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))
        os.execvp(command[0], command)
    except BaseException as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def wait_for(child: int) -> int:
    """Reap whatever ends until *child* does. Return its status as subprocess has it."""
    while True:
        pid, status = os.wait()
        if pid == child:
            return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def end_the_rest() -> None:
    """Kill all this process may signal: it is alone in its namespace, or alone with its uid."""
    with suppress(OSError):  # nobody is left
        os.kill(-1, signal.SIGKILL)
        while True:
            os.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
