"""What a slave keeps on disk, and what it finds there after a crash."""

import pytest

from piwheels.model.builds import BuildResult
from piwheels.protocol.slave import LOG_NAME
from piwheels.slave.spool import Spool

LEASE = b"0123456789abcdef"


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


def keep(spool):
    folder = spool.open(LEASE)
    (folder / LOG_NAME).write_text("all went well")
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    return spool.keep(LEASE, BuildResult(folder / LOG_NAME, wheels=(wheel,)))


def test_a_result_is_found_again_by_the_next_run(spool):
    built = keep(spool)
    assert list(Spool(spool.directory).results()) == [built]


def lose(path):
    path.unlink()


def damage(path):
    path.write_bytes(b"a whale")  # as long as it was


@pytest.mark.parametrize("happens", [lose, damage])
def test_a_result_that_could_never_be_delivered_is_dropped(spool, happens):
    built = keep(spool)
    happens(spool.files(built)["tiny-1.0-py3-none-any.whl"])
    assert list(spool.results()) == []
    assert not spool.folder(LEASE).exists()
