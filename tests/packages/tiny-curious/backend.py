"""Tries what a build must not be able to do, and prints what came of it."""

import os
import signal
import socket
import sys

from wheelwright import write_wheel


def attempt(name, action, *arguments):
    try:
        answer = action(*arguments)
    except OSError as error:
        answer = type(error).__name__
    print(f"{name}: {answer}")


def capabilities():
    with open("/proc/self/status") as status:
        return [line.split()[1] for line in status if line.startswith(("CapEff", "CapPrm"))]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    attempt("uid", os.getuid)
    attempt("capabilities", capabilities)
    attempt("directory", os.getcwd)
    attempt("interfaces", lambda: [name for _, name in socket.if_nameindex()])
    attempt("kill", os.kill, int(os.environ["VICTIM"]), signal.SIGKILL)
    attempt("read", lambda: open(os.environ["SECRET"]).read())
    attempt("write environment", lambda: open(os.path.join(sys.prefix, "pyvenv.cfg"), "a"))
    attempt("variables", lambda: sorted(os.environ))
    attempt("home", lambda: os.listdir(os.path.expanduser("~")))
    attempt("processes", lambda: sorted(int(n) for n in os.listdir("/proc") if n.isdigit()))
    return write_wheel(wheel_directory, "tiny-curious", "1.0")
