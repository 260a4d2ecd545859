import os
import time
from email.parser import Parser
from pathlib import Path

from wheelwright import write_wheel

VERSION = Parser().parsestr(Path("PKG-INFO").read_text())["Version"]
GATES = Path("gates.txt")  # names a folder; without it every gate is open
MANY = 12_000  # modules of a wheel whose inspection takes a while
LARGE = 3_000_000  # bytes of a wheel whose delivery takes a while


def get_requires_for_build_wheel(config_settings=None):
    pass_gate("preparing")
    return []


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    pass_gate("building")
    more = {}
    if is_there("many"):
        more = {f"tiny_gated_{number}.py": b"" for number in range(MANY)}
    if is_there("large"):
        more = {"tiny_gated.bin": os.urandom(LARGE)}
    return write_wheel(wheel_directory, "tiny-gated", VERSION, more=more)


def pass_gate(phase):
    print(f"at the gate after {phase}", flush=True)
    while not is_there(phase):
        time.sleep(0.02)


def is_there(name):
    return not GATES.exists() or Path(GATES.read_text(), f"{VERSION}.{name}").exists()
