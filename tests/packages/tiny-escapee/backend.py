import os
import time

from wheelwright import write_wheel


def daemonize():
    """Leave session, parent and output behind, as daemons do."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    os.execvp("sleep", ["sleep", os.environ["ESCAPEE_SECONDS"]])


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    daemonize()
    time.sleep(0.2)
    return write_wheel(wheel_directory, "tiny-escapee", "1.0")
