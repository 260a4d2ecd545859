import time
from email.parser import Parser
from pathlib import Path

from wheelwright import write_wheel

SECONDS = 6  # of work, as a compiler would do


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    for second in range(SECONDS):
        print(f"step {second + 1} of {SECONDS}", flush=True)
        time.sleep(1)
    info = Parser().parsestr(Path("PKG-INFO").read_text())
    return write_wheel(wheel_directory, "tiny-slow", info["Version"])
