"""How versions of a package are chosen and built, as an operator wants it."""

from sqlalchemy import Connection

from piwheels.database.statements import statement


def change(
    connection: Connection,
    package_id: int,
    prereleases: str = "",
    keep: int | None = None,
    policy: str = "",
    network: bool | None = None,
) -> bool:
    """Change what is neither '' nor None; keep: 0 for all versions. Whether anything changed.

    The queue's rule asks for these: judge the package's versions again.
    """
    parameters = {
        "package_id": package_id,
        "prereleases": prereleases,
        "keep": keep,
        "policy": policy,
        "network": network,
    }
    return connection.execute(statement("package_rules", "change"), parameters).rowcount == 1


def wanted_versions(connection: Connection, package_id: int) -> set[int]:
    """The versions of a package that anybody asked for: those that the queue may have."""
    rows = connection.execute(statement("package_rules", "wanted"), {"package_id": package_id})
    return set(rows.scalars())
