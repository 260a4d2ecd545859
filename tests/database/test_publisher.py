"""The publisher and its jobs, with a real database and a real web tree."""

import time

import pytest
from sqlalchemy import text

from piwheels.database import pages, projects
from piwheels.database.connection import transaction
from piwheels.index.pages import Site
from piwheels.master.publisher import Publisher
from tests.database.farm_in_a_database import Farm


@pytest.fixture
def world(farm_database):
    world = Farm(farm_database)
    world.empty()
    yield world
    world.engine.dispose()


@pytest.fixture
def publisher(world, tmp_path):
    return Publisher(world.engine, tmp_path / "www", Site())


def jobs(world):
    with transaction(world.engine) as connection:
        return connection.execute(text("SELECT package_id, attempts FROM page_jobs")).all()


def test_bursts_of_requests_are_one_job(world, publisher, tmp_path):
    world.add_package()
    for _ in range(5):
        world.alter_version("SELECT :version_id", 0)
    assert len(jobs(world)) == 1
    assert publisher.write_package()
    assert jobs(world) == []
    assert not publisher.write_package()
    assert "waiting" in (tmp_path / "www/project/p0/index.html").read_text()


def test_a_job_asked_for_again_while_it_is_done_is_done_again(world):
    world.add_package()
    with transaction(world.engine) as connection:
        job = pages.next_job(connection)
        world.alter_version("SELECT :version_id", 0)  # does not wait for the publisher
        pages.done(connection, job, is_listed=False)
    assert len(jobs(world)) == 1


def test_two_publishers_never_write_one_package_at_once(world):
    world.add_package()
    with transaction(world.engine) as one, transaction(world.engine) as two:
        assert pages.next_job(one) is not None
        assert pages.next_job(two) is None


def test_a_package_that_cannot_be_written_holds_up_no_other(world, publisher, tmp_path):
    world.add_package()
    world.add_package()
    (tmp_path / "www/project").mkdir(parents=True)
    (tmp_path / "www/project/p0").write_text("a file in the way of a folder")
    for _ in range(100):
        if (tmp_path / "www/project/p1/index.html").exists():
            break
        publisher.write_package()
    ((_, attempts),) = jobs(world)
    assert attempts > 0


def test_the_list_of_packages_names_those_with_a_page(world, publisher, tmp_path):
    for package in ("p0", "p1"):
        world.add_package()
        world.claim(9)
        for build_id, _ in world.held(9, 0):
            wheel = f"w-{build_id}-py3-none-any.whl"
        world.end(9, 0)
        if package == "p0":
            publisher.tree.package_folder(package).mkdir(parents=True)
            (publisher.tree.package_folder(package) / wheel).touch()
    while publisher.write_package():
        pass
    page = site_page(publisher, tmp_path / "www/simple/index.html")
    assert "p0" in page
    assert "p1" not in page, "its file is on record and not on disk"


def test_a_package_without_files_leaves_the_list(world, publisher, tmp_path):
    world.add_package()
    world.claim(9)
    ((build_id, _),) = world.held(9, 0)
    world.end(9, 0)
    wheel = publisher.tree.package_folder("p0") / f"w-{build_id}-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    while publisher.write_package():
        pass
    assert "p0" in site_page(publisher, tmp_path / "www/simple/index.html")
    wheel.unlink()
    world.alter_version("SELECT :version_id", 0)
    publisher.write_package()
    assert "p0" not in site_page(publisher, tmp_path / "www/simple/index.html", "p0")


def site_page(publisher, path, unlike="\0"):
    """A page of the whole site as soon as it is written, and does not say *unlike*."""
    deadline = time.monotonic() + 60
    while not path.exists() or unlike in path.read_text():
        publisher.write_site_page()
        assert time.monotonic() < deadline
    return path.read_text()


def test_a_farm_that_moves_has_all_its_pages_written_again(world, publisher, tmp_path):
    world.add_package()
    publisher.describe_site()
    while publisher.write_package():
        pass
    publisher.describe_site()
    assert jobs(world) == [], "nothing changed"
    moved = Publisher(world.engine, tmp_path / "www", Site(pypi_url="http://moved.example/"))
    moved.describe_site()
    assert len(jobs(world)) == 1
    moved.write_package()
    assert (
        "http://moved.example/project/p0/" in (tmp_path / "www/project/p0/index.html").read_text()
    )


def published(world, publisher):
    """The folder of a package with a wheel on disk and a page that names it."""
    world.add_package()
    world.claim(9)
    world.end(9, 0)
    world.change("UPDATE files SET name = 'p0-1.0-py3-none-any.whl'")
    folder = publisher.tree.package_folder("p0")
    folder.mkdir(parents=True)
    (folder / "p0-1.0-py3-none-any.whl").write_bytes(b"a wheel")
    publisher.write_package()
    assert (folder / "index.html").exists()
    return folder


@pytest.mark.parametrize("status", ["quarantined", "deleted"])
def test_what_pypi_withdraws_has_no_page_any_more(world, publisher, status):
    folder = published(world, publisher)
    world.change(f"UPDATE packages SET status = '{status}'")
    with transaction(world.engine) as connection:
        package_id = connection.execute(text("SELECT package_id FROM packages")).scalar_one()
        projects.request_pages(connection, [package_id], "status on PyPI")
        assert pages.overview(connection, 9) == []
    publisher.write_package()
    with transaction(world.engine) as connection:
        assert pages.listed_packages(connection) == []
    assert [path.name for path in folder.iterdir()] == ["p0-1.0-py3-none-any.whl"]
    assert not (publisher.tree.project_folder("p0") / "index.html").exists()


def test_files_of_deleted_projects_leave_the_disk_when_it_is_time(world, publisher):
    folder = published(world, publisher)
    world.change(
        "UPDATE packages SET status = 'deleted'",
        "INSERT INTO doomed_files SELECT name, 'p0', now() + interval '1 day' FROM files",
    )
    assert not publisher.remove_files()
    world.change("DELETE FROM versions", "UPDATE doomed_files SET due = now()")
    assert publisher.remove_files()
    assert not (folder / "p0-1.0-py3-none-any.whl").exists()


def test_a_doomed_file_that_was_published_again_stays(world, publisher):
    folder = published(world, publisher)
    world.change("INSERT INTO doomed_files SELECT name, 'p0', now() FROM files")
    publisher.remove_files()
    assert (folder / "p0-1.0-py3-none-any.whl").exists()
    assert world.scalars("SELECT name FROM doomed_files") == []
