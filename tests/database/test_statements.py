"""Every named statement, as the server reads it: no table, column or type that is not there."""

import re
from importlib.resources import files

from piwheels.database.connection import connect
from piwheels.database.statements import HEADING, statement

NAMED = [
    (path.name.removesuffix(".sql"), name)
    for path in sorted(files("piwheels.sql").iterdir(), key=lambda path: path.name)
    if path.name.endswith(".sql")
    for name in HEADING.findall(path.read_text(encoding="utf-8"))
]


def test_each_name_is_given_once():
    assert len(NAMED) == len(set(NAMED)) > 100


def test_the_server_understands_each_statement(farm_database):
    engine = connect(farm_database)
    wrong = []
    for area, name in NAMED:
        body = str(statement(area, name).compile(engine))
        body = re.sub(r"%\((\w+)\)s", _Numbers(), body).replace("%%", "%")
        with engine.connect() as connection, connection.connection.cursor() as cursor:
            try:
                cursor.execute(f"PREPARE this AS {body}")
            except Exception as error:
                wrong.append(f"{area}.{name}: {error}")
        engine.dispose()
    assert not wrong, "\n".join(wrong)


class _Numbers:
    """$1 for the first parameter, wherever it stands, and so on."""

    def __init__(self):
        self.known = []

    def __call__(self, found):
        if found[1] not in self.known:
            self.known.append(found[1])
        return f"${self.known.index(found[1]) + 1}"
