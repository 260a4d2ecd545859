import os
import subprocess
import sys
import sysconfig

from wheelwright import write_wheel


def compile_extension():
    """Return the bytes of the extension, None if it cannot be compiled."""
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", "faster.so", "faster.c"]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"warning: {error}; the slow version in Python will be used")
        return None
    with open("faster.so", "rb") as built:
        return built.read()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    extension = compile_extension()
    tag = "py3-none-any"
    if extension:
        abi = f"cp{sys.version_info[0]}{sys.version_info[1]}"
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        tag = f"{abi}-{abi}-{platform}"
    return write_wheel(wheel_directory, "tiny-degraded", "1.0", tag, extension)
