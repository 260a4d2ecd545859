"""One question of a tool to a service of the master on this host, and its answer."""

import argparse
import json
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from piwheels.cli.options import Parser, add_queue, duration, queue_address
from piwheels.model.errors import PiwheelsError, Unavailable
from piwheels.protocol import admin, control
from piwheels.protocol.admin import FROM_ADMIN, FROM_TOOL
from piwheels.protocol.codec import Vocabulary
from piwheels.protocol.control import FROM_CONTROL, FROM_OPERATOR
from piwheels.transport import Caller, Waiter

LANGUAGES: dict[str, tuple[Vocabulary, Vocabulary]] = {
    "import": (FROM_TOOL, FROM_ADMIN),
    "control": (FROM_OPERATOR, FROM_CONTROL),
}
REFUSALS = (admin.Failed, control.Failed)


def add_asking(parser: Parser, queue: str) -> None:
    """Add the options of a command that asks on *queue*: import or control."""
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument(
        "--wait", metavar="DURATION", type=duration, default=60.0, help="for the answer (60s)"
    )
    add_queue(parser, queue, "where the master listens to this command")


def ask(options: argparse.Namespace, queue: str, request: object) -> Any:
    """The answer of the service that listens on *queue*. Raise PiwheelsError if it is no."""
    answer = ask_at(queue_address(options, queue), request, options.wait, queue)
    if isinstance(answer, REFUSALS):
        if options.json:
            print(json.dumps(as_json(answer)))
        raise PiwheelsError(": ".join(filter(None, (answer.reason, answer.hint))))
    return answer


def ask_at(address: str, request: object, seconds: float, queue: str = "import") -> Any:
    """The answer on *address*. Raise Unavailable if there is none within *seconds*."""
    path = address.removeprefix("ipc://")
    if path != address and not Path(path).is_socket():
        raise Unavailable(f"nobody listens on {address}: is piw-master running on this host?")
    to_service, from_service = LANGUAGES[queue]
    with Caller(address) as caller:
        caller.ask(to_service.encode(request))
        waiter, deadline = Waiter(caller), time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            waiter.wait(left)
            if (frame := caller.answer()) is not None:
                return from_service.decode(frame)
    raise Unavailable(
        f"no answer on {address} within {seconds:g} s: is piw-master running, and is its "
        f"--{queue}-queue the same?"
    )


def as_json(message: Any) -> Any:
    """A message as JSON has it: times as text, in UTC."""
    return _plain(asdict(message))


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value
