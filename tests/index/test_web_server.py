"""The local web server, over its socket: what it answers to whom."""

import gzip
import hashlib
import json
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest
import requests

from piwheels.farm.web import PortTaken, listen
from piwheels.index.pages import Home
from tests.index.conftest import SERVER, running_server

TEXT_HTML = "text/html; charset=utf-8"
V1_HTML = "application/vnd.pypi.simple.v1+html"
V1_JSON = "application/vnd.pypi.simple.v1+json"
LATEST_JSON = "application/vnd.pypi.simple.latest+json"
WHEEL = "simple/tiny-thing/tiny_thing-1.0-py3-none-any.whl"
LOG = "logs/0000/0001/2345.txt.gz"


def get(site, path, method="GET", **headers) -> tuple[int, dict[str, str], bytes]:
    """One request exactly as given: nothing is normalized, added, followed or decoded."""
    connection = HTTPConnection(urlsplit(site.url).netloc, timeout=30)
    connection.putrequest(method, f"/{path}", skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, body


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", TEXT_HTML),
        ("text/html", TEXT_HTML),
        ("text/*", TEXT_HTML),
        (V1_HTML, V1_HTML),
        (V1_JSON, V1_JSON),
        ("application/*", V1_HTML),
        (LATEST_JSON, V1_JSON),
        ("application/vnd.pypi.simple.latest+html", V1_HTML),
        (V1_JSON.upper(), V1_JSON),
        (f"{V1_JSON}, {V1_HTML}; q=0.1, text/html; q=0.01", V1_JSON),  # pip
        (f"{V1_JSON}, {V1_HTML};q=0.2, text/html;q=0.01", V1_JSON),  # uv
        (f"{V1_JSON}, */*;q=0.1", V1_JSON),  # Poetry
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT_HTML),  # browsers
        (f"{V1_JSON};q=0.1, text/html", TEXT_HTML),
        (f"text/html;q=0.5, {V1_HTML};q=0.6", V1_HTML),
        (f"{V1_JSON};q=0, */*", TEXT_HTML),
        (f"text/html;q=0, {V1_HTML};q=0, */*;q=0.3", V1_JSON),
        (f"image/png, {V1_JSON};q=0.001", V1_JSON),
    ],
)
@pytest.mark.parametrize("page", ["simple/", "simple/tiny-thing/"])
def test_a_client_gets_the_form_it_likes_best(site, page, accept, content_type):
    status, headers, body = get(site, page, Accept=accept)
    assert (status, headers["content-type"]) == (200, content_type)
    assert set(headers["vary"].split(", ")) == {"Accept", "Accept-Encoding"}
    assert body.startswith(b"{" if content_type == V1_JSON else b"<!DOCTYPE html>")


def test_a_client_that_says_nothing_gets_html(site):
    assert get(site, "simple/tiny-thing/")[1]["content-type"] == TEXT_HTML


@pytest.mark.parametrize("accept", ["image/png", "application/json", "text/html;q=0"])
def test_a_client_that_takes_no_form_is_told_so(site, accept):
    status, headers, body = get(site, "simple/tiny-thing/", Accept=accept)
    assert status == 406
    assert headers["vary"] == "Accept"
    assert V1_JSON.encode() in body


def test_a_package_that_is_not_here_is_missing_in_every_form(site):
    assert get(site, "simple/other/", Accept="image/png")[0] == 404


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, zstd", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0.5, identity;q=0.1", "gzip"),
        ("identity", None),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip;q=0.1, identity", None),
    ],
)
@pytest.mark.parametrize(
    "path", ["", "simple/", "simple/tiny-thing/", "project/tiny-thing/", "static/style.css", LOG]
)
def test_what_is_compressed_goes_compressed_to_those_who_take_it(site, path, accepted, encoding):
    _, plain, text = get(site, path)
    _, headers, body = get(site, path, Accept_Encoding=accepted)
    assert headers.get("content-encoding") == encoding
    assert "Accept-Encoding" in headers["vary"]
    assert (gzip.decompress(body) if encoding else body) == text
    assert (headers["etag"] == plain["etag"]) is (encoding is None)


@pytest.mark.parametrize(
    ("path", "content_type", "lasts"),
    [
        ("", TEXT_HTML, False),
        ("project/tiny-thing/", TEXT_HTML, False),
        ("static/style.css", "text/css; charset=utf-8", False),
        ("simple/tiny-thing/index.v1_json", V1_JSON, False),
        ("simple/tiny-thing/index.v1_html", V1_HTML, False),
        ("simple/index.html", TEXT_HTML, False),
        (WHEEL, "application/octet-stream", True),
        (f"{WHEEL}.metadata", "text/plain; charset=utf-8", True),
        (LOG, "text/plain; charset=utf-8", True),
    ],
)
def test_every_kind_of_file_has_its_type_and_its_time_in_caches(site, path, content_type, lasts):
    status, headers, _ = get(site, path)
    assert (status, headers["content-type"]) == (200, content_type)
    assert ("immutable" in headers["cache-control"]) is lasts
    assert headers["x-content-type-options"] == "nosniff"


def test_a_log_reads_as_text_for_those_who_cannot_decompress(site):
    _, headers, body = get(site, LOG)
    assert "content-encoding" not in headers
    assert body.decode() == "läuft\n" * 1000


def test_a_client_with_the_current_log_in_either_form_is_told_so(site):
    for accepted in ("gzip", "identity"):
        etag = get(site, LOG, Accept_Encoding=accepted)[1]["etag"]
        assert get(site, LOG, Accept_Encoding=accepted, If_None_Match=etag)[0] == 304


def test_a_wheel_has_the_hash_its_page_states(site):
    page = json.loads(get(site, "simple/tiny-thing/", Accept=V1_JSON)[2])
    (file,) = page["files"]
    for path, hashes in (
        (file["url"], file["hashes"]),
        (f"{file['url']}.metadata", file["core-metadata"]),
    ):
        body = get(site, f"simple/tiny-thing/{path}")[2]
        assert hashlib.sha256(body).hexdigest() == hashes["sha256"]


@pytest.mark.parametrize("path", ["simple/tiny-thing/", WHEEL, LOG, "project/tiny-thing/"])
def test_head_says_what_get_would_say(site, path):
    get_status, get_headers, _ = get(site, path, Accept_Encoding="gzip")
    status, headers, body = get(site, path, method="HEAD", Accept_Encoding="gzip")
    assert (status, body) == (get_status, b"")
    for name in ("content-length", "content-type", "etag", "content-encoding", "last-modified"):
        assert headers.get(name) == get_headers.get(name)


@pytest.mark.parametrize("path", ["simple/tiny-thing/", WHEEL, "project/tiny-thing/", ""])
def test_a_client_with_a_current_copy_is_told_so(site, path):
    _, headers, _ = get(site, path)
    status, _, body = get(site, path, If_None_Match=headers["etag"])
    assert (status, body) == (304, b"")
    status, _, body = get(site, path, If_Modified_Since=headers["last-modified"])
    assert (status, body) == (304, b"")


def test_a_client_with_an_old_copy_gets_the_new_page(tree, server):
    tree.write_root(["old"])
    etag = get(server, "simple/")[1]["etag"]
    tree.write_root(["new"])  # as long as before, and perhaps within the same tick
    status, _, body = get(server, "simple/", If_None_Match=etag)
    assert status == 200
    assert b"new/" in body


@pytest.mark.parametrize(
    ("wanted", "part"),
    [("0-9", slice(0, 10)), ("10-", slice(10, None)), ("-7", slice(-7, None))],
)
def test_a_part_of_a_wheel_can_be_asked_for(site, wanted, part):
    whole = get(site, WHEEL)[2]
    status, headers, body = get(site, WHEEL, Range=f"bytes={wanted}")
    assert (status, body) == (206, whole[part])
    assert headers["content-range"].endswith(f"/{len(whole)}")
    assert get(site, WHEEL)[1]["accept-ranges"] == "bytes"


def test_a_part_beyond_the_end_of_a_wheel_is_refused(site):
    size = len(get(site, WHEEL)[2])
    status, headers, _ = get(site, WHEEL, Range=f"bytes={size}-")
    assert (status, headers["content-range"]) == (416, f"bytes */{size}")


def test_a_download_goes_on_only_in_the_file_it_began_with(site):
    whole = get(site, WHEEL)[2]
    etag = get(site, WHEEL)[1]["etag"]
    assert get(site, WHEEL, Range="bytes=5-", If_Range=etag)[2] == whole[5:]
    assert get(site, WHEEL, Range="bytes=5-", If_Range='"another"')[::2] == (200, whole)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("simple", "/simple/"),
        ("simple/tiny-thing", "/simple/tiny-thing/"),
        ("simple/Tiny_Thing/", "/simple/tiny-thing/"),
        ("simple/tiny.-_thing", "/simple/tiny-thing/"),
        ("project/Tiny.Thing", "/project/tiny-thing/"),
        (WHEEL.replace("tiny-thing", "Tiny-Thing"), f"/{WHEEL}"),
        ("//simple//tiny-thing/", "/simple/tiny-thing/"),
        ("static", "/static/"),
    ],
)
def test_every_page_has_one_address(site, path, address):
    status, headers, _ = get(site, path)
    assert (status, headers["location"]) == (301, address)


@pytest.mark.parametrize(
    "path",
    [
        "simple/other/",
        "simple/not-built/",
        "simple/tiny-thing/other-1.0-py3-none-any.whl",
        f"{WHEEL}/",
        "logs/",
        "static/",
        ".secret",
        "simple/tiny-thing/.piwheels-x.tmp",
        "../outside.html",
        "%2e%2e/outside.html",
        "..%2foutside.html",
        "static/../../outside.html",
        "static/../index.html",
        "simple/%00/",
        "simple/!/",
        "simple/" + "a" * 300 + "/",
        "a" * 5000,
        "%ff%fe",
        "simple/tiny-thing/index.html%0d%0aX:%20y",
    ],
)
def test_what_is_not_published_is_missing(site, path):
    status, headers, body = get(site, path)
    assert status == 404
    assert b"There is nothing here" in body
    assert b"secret" not in body
    assert headers["content-type"] == TEXT_HTML


def test_a_removed_wheel_is_missing_though_its_sidecar_is_there(tree, server):
    name = "tiny-1.0-py3-none-any.whl"
    tree.place_bytes(b"Name: tiny", tree.sidecar_path("tiny", name))
    assert get(server, f"simple/tiny/{name}")[0] == 404


def test_a_tree_without_any_page_answers_that_nothing_is_there(server):
    assert get(server, "")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PROPFIND"])
def test_nothing_can_be_changed(site, method):
    status, headers, _ = get(site, "simple/tiny-thing/", method=method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


def test_a_page_that_is_replaced_while_it_is_asked_for_arrives_whole(tree, server):
    small, large = ["first"], [f"package-{number}" for number in range(2000)]
    tree.write_root(small)
    done = Event()

    def rewrite():
        while not done.is_set():
            tree.write_root(large)
            tree.write_root(small)

    writer = Thread(target=rewrite)
    writer.start()
    try:
        packed, plain = set(), set()
        with requests.Session() as session:
            while len(packed) < 2 or len(plain) < 2:
                page = session.get(f"{server.url}simple/", headers={"Accept": V1_JSON})
                packed.add(len(page.json()["projects"]))
                page = session.get(f"{server.url}simple/", headers={"Accept-Encoding": "identity"})
                assert page.text.endswith("</html>\n")
                plain.add(page.text.count("<a "))
        assert packed == plain == {1, 2000}
    finally:
        done.set()
        writer.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_it_is_told_to(tree, number):
    with running_server(tree.root) as server:
        server.process.send_signal(number)
        assert server.process.wait(timeout=60) == 0


def test_its_port_is_free_again_when_it_has_ended(tree):
    with running_server(tree.root) as server:
        port = urlsplit(server.url).port
    with running_server(tree.root, port) as server:
        assert urlsplit(server.url).port == port


def test_a_taken_port_is_reported_with_what_to_do(tree):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} .*taken.*choose another port"):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_reported_with_what_to_do(tree):
    with pytest.raises(PortTaken, match="choose an address of this machine"):
        listen("192.0.2.1", 0)


def test_the_home_page_is_served_over_ipv6(tree):
    tree.write_home(Home((), 0))
    code = SERVER.replace("127.0.0.1", "::1")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tree.root), "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        port = int(process.stdout.readline())
        assert requests.get(f"http://[::1]:{port}/", timeout=30).status_code == 200
        process.terminate()


def test_the_server_leaves_no_file_open(tree, server):
    tree.write_root(["tiny"])
    tree.place_bytes(gzip.compress(b"log" * 10**6), tree.log_path(7))
    log = "logs/0000/0000/0007.txt.gz"
    etag = get(server, "simple/")[1]["etag"]
    for _ in range(5):
        get(server, "simple/", method="HEAD")
        get(server, "simple/", If_None_Match=etag)
        get(server, "simple/", Range="bytes=0-5")
        get(server, "simple/", Range="bytes=99999999-")
        get(server, log)
        get(server, log, method="HEAD")
    get(server, "simple/missing/")
    opened = [fd.resolve() for fd in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    assert not [path for path in opened if path.is_relative_to(tree.root)]
