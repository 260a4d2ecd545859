"""What the slave's machine has, and how it is."""

import os
import shutil
from pathlib import Path

import psutil

from piwheels.protocol.slave import Health, Resources

COMPILERS = ("cc", "gcc", "clang")


def resources(directory: Path, sandbox: str, image: str) -> Resources:
    """What the machine has in all; disk: where *directory* is. image: see slave.image."""
    return Resources(
        cores=len(os.sched_getaffinity(0)),
        memory=psutil.virtual_memory().total,
        disk=shutil.disk_usage(directory).total,
        sandbox=sandbox,
        image=image,
    )


def health(directory: Path) -> Health:
    """How the machine is now; disk: where *directory* is."""
    return Health(
        memory_free=psutil.virtual_memory().available,
        disk_free=shutil.disk_usage(directory).free,
        load=os.getloadavg()[0],
        temperature=_temperature(),
    )


def has_compiler() -> bool:
    """Whether there is a C compiler, without which packages with C code fail."""
    return any(map(shutil.which, COMPILERS))


def _temperature() -> float | None:
    """Of the hottest sensor, in degrees Celsius; None where the machine does not say."""
    sensors = psutil.sensors_temperatures()
    return max((each.current for group in sensors.values() for each in group), default=None)
