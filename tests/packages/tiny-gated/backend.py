import time
from email.parser import Parser
from pathlib import Path

from wheelwright import write_wheel

VERSION = Parser().parsestr(Path("PKG-INFO").read_text())["Version"]
GATES = Path("gates.txt")  # names a folder; without it every gate is open
MODULES = 20_000  # of a heavy wheel: its inspection takes a while


def get_requires_for_build_wheel(config_settings=None):
    pass_gate("preparing")
    return []


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    pass_gate("building")
    modules = MODULES if is_there("heavy") else 1
    return write_wheel(wheel_directory, "tiny-gated", VERSION, modules=modules)


def pass_gate(phase):
    print(f"at the gate after {phase}", flush=True)
    while not is_there(phase):
        time.sleep(0.02)


def is_there(name):
    return not GATES.exists() or Path(GATES.read_text(), f"{VERSION}.{name}").exists()
