"""What becomes of a build whose sdist cannot be had."""


def test_a_server_that_fails_twice_is_asked_a_third_time(slave, server):
    server.failures = 2
    assert slave.build("tiny-liar").kind == "bad wheel"
    assert server.requests == 3


def test_a_server_that_fails_for_good_is_not_the_packages_fault(slave, server):
    server.failures = 3
    assert slave.build("tiny-pure").kind == "index unavailable"


def test_an_sdist_that_is_not_there_is_a_failed_fetch(slave, server):
    url = f"http://127.0.0.1:{server.server_port}/elsewhere.tar.gz"
    failure = slave.build("tiny-pure", sdist={"url": url}).failure
    assert failure["kind"] == "fetch failed"
    assert "404" in failure["cause"]


def test_an_sdist_with_another_hash_is_not_built(slave):
    failure = slave.build("tiny-pure", sdist={"sha256": "0" * 64}).failure
    assert failure["kind"] == "fetch failed"
    assert "sha256" in failure["cause"]


def test_an_sdist_of_another_size_is_not_built(slave):
    assert slave.build("tiny-pure", sdist={"size": 10}).kind == "fetch failed"


def test_files_of_the_slave_are_no_sdists(slave):
    assert slave.build("tiny-pure", sdist={"url": "file:///etc/passwd"}).kind == "fetch failed"
