"""Builds one order in a process of its own, as whatever user that runs as.

Standard input: {"directory", "spool", "python", "level" (or null for the best), "order"} as
JSON. Standard output: the result as JSON. SIGTERM cancels the build.
"""

import dataclasses
import json
import signal
import sys
import threading
from datetime import datetime
from pathlib import Path

from piwheels.model.builds import BuildOrder, Limits, Sdist
from piwheels.slave.builder import Builder
from piwheels.slave.interpreter import probe as probe_interpreter
from piwheels.slave.sandbox import Level, Sandbox
from piwheels.slave.sandbox import probe as probe_sandbox


def read_order(fields: dict) -> BuildOrder:
    fields["sdist"] = Sdist(**fields["sdist"])
    fields["limits"] = Limits(**fields["limits"])
    fields["index_urls"] = tuple(fields["index_urls"])
    if "tools_before" in fields:
        fields["tools_before"] = datetime.fromisoformat(fields["tools_before"])
    return BuildOrder(**fields)


def main() -> None:
    job = json.load(sys.stdin)
    directory, interpreter = Path(job["directory"]), probe_interpreter(job["python"])
    level = Level(job["level"] or probe_sandbox(interpreter, directory).level)
    builder = Builder(directory, interpreter, Sandbox(interpreter, level))
    cancelled = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: cancelled.set())
    spool = Path(job["spool"])
    phases: list[str] = []
    result = builder.build(read_order(job["order"]), spool, cancelled, phases.append)
    log = result.log.read_text(errors="replace") if result.log else None
    answer = dataclasses.asdict(result) | {"log": log}
    json.dump(answer | {"begun": phases}, sys.stdout, default=str)


if __name__ == "__main__":
    main()
