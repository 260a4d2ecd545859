"""The publisher: renders and writes the web tree, one page job after the other.

Any number may run at once. A package that cannot be written is put off, further each time,
and holds up no other.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import Connection, Engine

from piwheels.database import pages, projects
from piwheels.database.connection import transaction
from piwheels.database.pages import PageJob
from piwheels.index.pages import Home, PackageCounts, Site
from piwheels.index.writer import WebTree
from piwheels.master.service import on_wake_up
from piwheels.master.standings import project
from piwheels.model.errors import Unavailable
from piwheels.rules.following import is_shown

log = logging.getLogger(__name__)

FILES = 100  # that are removed in one transaction
LISTED = 1_000  # packages on the home page
LONGEST_DELAY = 3_600.0  # seconds until a package that cannot be written is tried again


class Publisher:
    """The service."""

    def __init__(self, engine: Engine, root: Path, site: Site) -> None:
        self.engine = engine
        self.tree = WebTree(root, site)

    def serve(self, is_stopping: Callable[[], bool], beat: Callable[[], None]) -> None:
        """Work until *is_stopping*; call *beat* about once a second."""
        self.tree.install_static()
        is_described = False

        def work() -> bool:
            nonlocal is_described
            if not is_described:
                self.describe_site()
                is_described = True
            return self.write_package() or self.write_site_page() or self.remove_files()

        on_wake_up(self.engine, ["page_jobs", "site_jobs"], work, is_stopping, beat)

    def describe_site(self) -> None:
        """Have every page written again if pages speak of the farm in another way now."""
        with transaction(self.engine) as connection:
            pages.describe_site(connection, asdict(self.tree.site))

    def write_package(self) -> bool:
        """Write the pages of the package that has waited longest; False if none waits."""
        with transaction(self.engine) as connection:
            job = pages.next_job(connection)
            if job is None:
                return False
            try:
                is_listed = self._write(connection, job)
            except (Unavailable, MemoryError):
                raise
            except Exception:
                delay = min(2.0**job.attempts, LONGEST_DELAY)
                log.exception("package %d: trying again in %.0f s", job.package_id, delay)
                pages.put_off(connection, job, delay)
            else:
                pages.done(connection, job, is_listed)
        return True

    def write_site_page(self) -> bool:
        """Write a page of no single package, if one is due; False if none is."""
        with transaction(self.engine) as connection:
            job = pages.next_site_job(connection)
            if job is None:
                return False
            if job.page == "simple":
                self.tree.write_root(pages.listed_packages(connection))
            elif job.page == "home":
                self.tree.write_home(_home(connection))
            else:
                log.warning("nobody knows how to write the page %r", job.page)
            pages.site_done(connection, job)
        return True

    def remove_files(self) -> bool:
        """Remove files that no page has named for long enough; False if there are none."""
        with transaction(self.engine) as connection:
            found = projects.due_files(connection, FILES)
            for package, name in found:
                self.tree.remove_files(package, [name])
        return bool(found)

    def _write(self, connection: Connection, job: PageJob) -> bool:
        """Whether the package has a simple page now."""
        contents = pages.contents(connection, job.package_id)
        if contents is None:
            return False
        if not is_shown(contents.status):
            self.tree.remove_project(contents.name)
            return False
        missing = self.tree.write_project(project(connection, contents))
        if missing:
            log.error("%s: files on record are not on disk: %s", contents.name, ", ".join(missing))
        return len(missing) < len(contents.files)


def _home(connection: Connection) -> Home:
    counts = pages.overview(connection, LISTED)
    packages = tuple(
        PackageCounts(
            row.name,
            row.summary,
            {"done": row.files, "waiting": row.waiting, "failed": row.failed},
        )
        for row in counts
    )
    totals = {
        state: sum(each.states[state] for each in packages)
        for state in ("done", "waiting", "failed")
    }
    return Home(packages, len(packages), totals)
