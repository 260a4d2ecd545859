"""Named statements are planned once by each connection, not each time.

psycopg2 sends every statement as text, and the server parses and plans it anew; for the short
statements of a claim that is half of the work. At its first use on a connection a named
statement is sent as PREPARE and EXECUTE together, from then on as EXECUTE alone.
"""

import re
from typing import Any

from sqlalchemy import Connection, Engine, event

PARAMETER = re.compile(r"%\((\w+)\)s")


def prepare_statements(engine: Engine) -> None:
    """Let *engine*'s connections prepare what has the execution option ``prepared``, a name."""
    event.listen(engine, "before_cursor_execute", _by_name, retval=True)
    event.listen(engine, "after_cursor_execute", _remember)


def _by_name(
    connection: Connection,
    _: object,
    statement: str,
    parameters: Any,
    context: Any,
    executemany: bool,
) -> tuple[str, Any]:
    name = context.execution_options.get("prepared") if context is not None else None
    if name is None or executemany:
        return statement, parameters
    if known := connection.info.get(name):
        return known, parameters
    # One that failed at its first use may be there or not: the next attempt has its own name.
    number = connection.info["attempts"] = connection.info.get("attempts", 0) + 1
    order = list(dict.fromkeys(PARAMETER.findall(statement)))
    body = PARAMETER.sub(lambda found: f"${order.index(found[1]) + 1}", statement)
    values = ", ".join(f"%({parameter})s" for parameter in order)
    execute = f"EXECUTE {name}_{number}" + (f" ({values})" if order else "")
    context.prepares = execute
    return f"PREPARE {name}_{number} AS {body}; {execute}", parameters


def _remember(
    connection: Connection, _: object, __: str, ___: object, context: Any, ____: bool
) -> None:
    if execute := getattr(context, "prepares", None):
        connection.info[context.execution_options["prepared"]] = execute
