"""Sets of tags by number: a few thousand serve millions of versions and files."""

import json
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine

from piwheels.database.statements import statement


class TagSets:
    """The sets that are known of one database. They never change, so each is read once."""

    def __init__(self) -> None:
        self.known: dict[int, frozenset[str]] = {}

    def load(self, connection: Connection, tag_set_ids: Iterable[int]) -> None:
        """Make these sets known."""
        if unknown := set(tag_set_ids) - self.known.keys():
            parameters = {"tag_set_ids": sorted(unknown)}
            for number, tags in connection.execute(statement("tag_sets", "load"), parameters):
                self.known[number] = frozenset(tags)

    def union(self, tag_set_ids: Iterable[int]) -> frozenset[str]:
        """All tags of these sets together."""
        return frozenset().union(*(self.known[number] for number in tag_set_ids))


_KNOWN: WeakKeyDictionary[Engine, TagSets] = WeakKeyDictionary()


def known(connection: Connection) -> TagSets:
    """The sets that are known of this connection's database."""
    return _KNOWN.setdefault(connection.engine, TagSets())


def put(connection: Connection, sets: Iterable[Iterable[str]]) -> None:
    """Enter those that are new. Equal sets must look equal: sorted, each tag once."""
    rows = json.dumps([{"tags": list(tags)} for tags in sets])
    connection.execute(statement("tag_sets", "put"), {"rows": rows})


def number(connection: Connection, tags: Iterable[str]) -> int:
    """The number of a set, entered if it is new."""
    ordered = sorted(set(tags))
    put(connection, [ordered])
    found = connection.execute(statement("tag_sets", "id"), {"tags": ordered})
    return int(found.scalar_one())
