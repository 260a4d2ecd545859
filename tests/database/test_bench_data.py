"""What scripts/bench measures with: data as the rule has them, slaves that keep the protocol."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels.model.builds import FailureClass
from piwheels.protocol.slave import (
    FROM_SLAVE,
    TO_SLAVE,
    Ack,
    Build,
    Busy,
    Cancel,
    Continue,
    Die,
    Done,
    OrderedLimits,
    OrderedSdist,
    Send,
    Sent,
    Sleep,
    Who,
)
from scripts.benchmarks import fleet, pypi_sized
from scripts.benchmarks.command import main
from scripts.benchmarks.latency import Latency
from scripts.benchmarks.pypi_sized import Shape
from scripts.benchmarks.result import BenchmarkFailed
from scripts.benchmarks.server import running_server

SHAPE = Shape(packages=150, versions=1_500)
TOKEN = bytes(range(16))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("bench")) as server:
        yield server


@pytest.fixture(scope="module")
def made(server):
    pypi_sized.make(server, "made", SHAPE)
    database = server.database("made")
    pypi_sized.judge(database)
    return database


@pytest.fixture
def copy(server, made):
    yield server.create("copy", template=made.name)
    server.drop("copy")


def rows(database, query):
    with database.as_owner() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


# The data


def test_exactly_so_much_is_made_as_was_asked_for(made):
    assert made.value("SELECT count(*) FROM packages") == SHAPE.packages
    assert made.value("SELECT count(*) FROM versions") == SHAPE.versions
    assert made.value("SELECT count(*) FROM targets WHERE active") == SHAPE.targets


def test_every_row_of_the_made_queue_is_what_the_rule_says(made):
    assert made.value("SELECT count(*) FROM queue") > SHAPE.versions / 5
    assert pypi_sized.check(made, SHAPE, SHAPE.versions) == 0


@pytest.mark.parametrize(
    "mistake",
    [
        "DELETE FROM queue WHERE version_id = (SELECT min(version_id) FROM queue)",
        "UPDATE queue SET popularity = popularity + 1"
        " WHERE version_id = (SELECT max(version_id) FROM queue)",
    ],
)
def test_a_row_that_is_not_what_the_rule_says_is_found(copy, mistake):
    rows(copy, f"{mistake} RETURNING version_id")
    assert pypi_sized.check(copy, SHAPE, SHAPE.versions) > 0


def test_nothing_that_is_made_refers_to_what_is_not_there(made):
    references = rows(
        made,
        "SELECT conrelid::regclass::text, confrelid::regclass::text, a.attname, b.attname"
        " FROM pg_constraint"
        " JOIN pg_attribute AS a ON a.attrelid = conrelid AND a.attnum = conkey[1]"
        " JOIN pg_attribute AS b ON b.attrelid = confrelid AND b.attnum = confkey[1]"
        " WHERE contype = 'f'",
    )
    assert len(references) > 10
    for table, other, column, key in references:
        lost = made.value(
            f"SELECT count(*) FROM {table} WHERE {column} IS NOT NULL"
            f" AND NOT EXISTS (SELECT FROM {other} WHERE {other}.{key} = {table}.{column})"
        )
        assert lost == 0, f"{table}.{column}"


def test_the_counts_of_what_waits_are_those_of_the_queue(made):
    counted = Counter()
    for table in ("queue_counts", "queue_changes"):
        for *key, waiting in rows(made, f"SELECT target_id, lane, ready, waiting FROM {table}"):
            counted[tuple(key)] += waiting
    waiting = rows(made, "SELECT target_id, lane, ready, count(*) FROM queue GROUP BY 1, 2, 3")
    assert {key: count for key, count in counted.items() if count} == {
        tuple(key): count for *key, count in waiting
    }


def test_failures_are_of_classes_that_the_farm_knows(made):
    kinds = {kind for (kind,) in rows(made, "SELECT DISTINCT kind FROM builds")}
    assert "" in kinds
    assert len(kinds) > 5
    assert kinds - {""} <= set(FailureClass)


def test_the_next_build_has_a_number_of_its_own(copy):
    newest = copy.value("SELECT max(build_id) FROM builds")
    assert copy.value("SELECT nextval(pg_get_serial_sequence('leases', 'build_id'))") == newest + 1


# The figures


@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=500))
def test_at_most_one_in_a_hundred_takes_longer_than_p99(seconds):
    latency = Latency.of(seconds)
    assert latency.median <= latency.p99 <= latency.highest == max(seconds)
    assert {latency.median, latency.p99} <= set(seconds)
    assert sum(each > latency.p99 for each in seconds) * 100 <= len(seconds)
    assert sum(each >= latency.p99 for each in seconds) * 100 >= len(seconds)


def test_nothing_measured_has_no_latency():
    with pytest.raises(BenchmarkFailed):
        Latency.of([])


# The simulated slaves

SDIST = OrderedSdist("tiny-1.0.tar.gz", "http://127.0.0.1/tiny-1.0.tar.gz", "a" * 64, 1)
BUILD = Build(TOKEN, 7, "tiny", "1.0", SDIST, OrderedLimits(1.0, 1.0, 0, 0, 0, 0))
ANSWERS = [
    Ack(1, 15.0, 20.0, TOKEN),
    Die("go"),
    Who(),
    BUILD,
    Sleep(0.0, "nothing"),
    Continue(),
    Cancel("gone"),
    Send(("build-log.txt",)),
    Done(),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_a_simulated_slave_knows_each_answer_by_its_type(answer):
    assert fleet.type_of(TO_SLAVE.encode(answer)).decode() == type(answer).__name__.upper()


def test_every_answer_there_is_was_tried():
    assert {type(answer) for answer in ANSWERS} == set(TO_SLAVE.messages.values())


def test_a_simulated_slave_finds_its_lease_in_an_order():
    assert fleet.lease_of(TO_SLAVE.encode(BUILD)) == TOKEN


@pytest.mark.parametrize("kind", fleet.Kind)
def test_what_a_simulated_slave_says_of_its_lease_is_what_the_protocol_wants(kind):
    frames = fleet.Frames(kind)
    busy, built, sent = (
        FROM_SLAVE.decode(frames.about(TOKEN, name)) for name in ("BUSY", "BUILT", "SENT")
    )
    assert isinstance(busy, Busy)
    assert sent == Sent(TOKEN)
    assert {busy.lease, built.lease} == {TOKEN}
    assert [wheel.name for wheel in built.wheels] == (
        [f"w_{TOKEN.hex()}-1.0-cp311-cp311-linux_armv7l.whl"] if kind is fleet.Kind.SUCCESS else []
    )


def test_what_simulated_slaves_offer_are_the_targets_of_the_made_data(made):
    offered = {pypi_sized.target(rank)["name"]: rank for rank in range(SHAPE.targets)}
    known = dict(rows(made, "SELECT name, tags FROM targets JOIN tag_sets USING (tag_set_id)"))
    assert known == {name: pypi_sized.target(rank)["tags"] for name, rank in offered.items()}


# All of it, small


@pytest.mark.timeout(900)
def test_the_queue_reports_both_sizes_and_the_activation(tmp_path, capsys):
    file = tmp_path / "queue.json"
    words = ["--packages", "300", "--versions", "6000", "--compare", "--explain"]
    words += ["--samples", "100", "--activation", "3", "--json", str(file)]
    status = main(["queue", *words])
    said = capsys.readouterr()
    assert status == 0, said.err
    figures = json.loads(file.read_text())["figures"]
    full, tenth = figures["sizes"]
    assert (full["shape"]["versions"], tenth["shape"]["versions"]) == (6000, 600)
    for size in (full, tenth):
        assert size["latencies"]["single claims"]["count"] == min(100, size["waiting"] // 10)
        assert size["latencies"]["news to claim"]["count"] == 10
        assert 0 < size["activated"]["judged"] <= size["activated"]["versions"]
        assert "Index Scan using queue_order" in size["plan"]
    assert "6,000 versions / 600 versions" in said.out


@pytest.mark.timeout(900)
def test_dispatch_counts_what_is_committed_and_measures_each_message(tmp_path, capsys):
    file = tmp_path / "dispatch.json"
    words = ["--slaves", "3", "--seconds", "1", "--beats", "20", "--versions", "2000"]
    status = main(["dispatch", *words, "--json", str(file)])
    said = capsys.readouterr()
    assert status == 0, said.err
    failing, succeeding, *beats = json.loads(file.read_text())["figures"]["scenes"]
    for scene, kinds in ((failing, set()), (succeeding, {"SENT"})):
        assert scene["latencies"].keys() == {"IDLE", "BUSY", "BUILT", "cycle"} | kinds
        # Each slave can be in the middle of one at either end.
        assert abs(scene["builds"] - scene["latencies"]["cycle"]["count"]) <= 3
        assert scene["odd"] == {}
        assert scene["memory"] > 0
    assert [each["scene"] for each in beats] == [
        "alone", "beside uploads", "beside the publisher",
    ]  # fmt: skip
    for each in beats:
        assert each["latencies"].keys() == {"BUSY"}
        assert each["builds"] == 0
