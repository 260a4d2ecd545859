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
        self.numbers: dict[frozenset[str], int] = {}

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


def numbers(connection: Connection, sets: Iterable[frozenset[str]]) -> dict[frozenset[str], int]:
    """The numbers of these sets, entered if they are new; the empty set has none.

    To be called once in a transaction: what that enters is remembered when it is found later.
    """
    cache = known(connection).numbers
    wanted = {tags for tags in sets if tags}
    if unknown := wanted - cache.keys():
        cache.update(_find(connection, unknown))
    found = {tags: cache[tags] for tags in wanted if tags in cache}
    if new := wanted - found.keys():
        put(connection, map(sorted, new))
        found.update(_find(connection, new))
    return found


def _find(connection: Connection, sets: Iterable[frozenset[str]]) -> dict[frozenset[str], int]:
    rows = json.dumps([{"tags": sorted(tags)} for tags in sets])
    found = connection.execute(statement("tag_sets", "find"), {"rows": rows})
    return {frozenset(row.tags): row.tag_set_id for row in found}
