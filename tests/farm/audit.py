"""What must hold of a farm at rest: nothing waits, and what is on record is what is served."""

import hashlib
import re
from collections import Counter

from tests.farm.faults import HIRED, PACKAGE, HurtFarm

JSON = "application/vnd.pypi.simple.v1+json"
EMPTY = ("queue", "leases", "uploads", "rejudge", "page_jobs", "site_jobs")


def end_well(farm: HurtFarm) -> None:
    """End the farm; assert that all was well with it, to the last."""
    begun = farm.begin(HIRED + 1)
    assert len({lease.slave for lease in begun.values()}) == HIRED + 1, "every slave takes work"
    farm.settle(begun)
    farm.kill("receiver")  # it sweeps when it starts
    farm.until(lambda: not unrest(farm), "nothing waits")
    assert untruths(farm) == []
    assert [hired.end() for hired in farm.slaves.values()] == [0] * HIRED
    farm.farm.interrupt()
    assert farm.processes() == []


def unrest(farm: HurtFarm) -> list[str]:
    """What still waits, runs or lies about."""
    found = [
        f"{count} rows in {table}"
        for table in EMPTY
        for ((count,),) in [farm.look(f"SELECT count(*) FROM {table}")]
        if count
    ]
    counts = farm.look(
        "SELECT target_id, lane, ready, sum(waiting) FROM"
        " (SELECT * FROM queue_counts UNION ALL SELECT * FROM queue_changes) AS counts"
        " GROUP BY target_id, lane, ready HAVING sum(waiting) <> 0"
    )
    found += [f"the queue is counted wrong: {row}" for row in counts]
    found += [f"staged: {path}" for path in (farm.farm.data / "www" / ".staging").iterdir()]
    found += [f"a build still runs: {process}" for process in farm.builds()]
    return found


def untruths(farm: HurtFarm) -> list[str]:
    """Where records, files and pages do not say the same of what was asked for."""
    return [*_misbuilt(farm), *_missing_on_disk(farm), *_wrong_on_pages(farm)]


def _misbuilt(farm: HurtFarm) -> list[str]:
    built = Counter(version for version, _ in farm.built(farm.versions))
    found = [f"{version} was built {built[version]} times" for version in farm.versions]
    files = farm.look(
        "SELECT version, count(files) FROM versions LEFT JOIN files USING (version_id)"
        " WHERE version = ANY(%s) GROUP BY version HAVING count(files) <> 1",
        farm.versions,
    )
    wrong = [words for words in found if not words.endswith(" 1 times")]
    return wrong + [f"{version} has {count} files" for version, count in files]


def _missing_on_disk(farm: HurtFarm) -> list[str]:
    tree = farm.farm.data / "www"
    found = []
    for name, sha256 in _on_record(farm).items():
        path = tree / "simple" / PACKAGE / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            found.append(f"{name} is not what is on record")
        if not path.with_name(f"{name}.metadata").is_file():
            found.append(f"{name} has no metadata beside it")
    logs = farm.look("SELECT build_id, log FROM builds WHERE outcome = 'success'")
    return found + [f"no log of build {n}: {log!r}" for n, log in logs if not _is_file(tree, log)]


def _is_file(tree, public_path: str) -> bool:
    return bool(public_path) and (tree / public_path.lstrip("/")).is_file()


def _wrong_on_pages(farm: HurtFarm) -> list[str]:
    record = _on_record(farm)
    page = farm.farm.get(f"simple/{PACKAGE}/", Accept=JSON).json()
    listed = {file["filename"]: file["hashes"]["sha256"] for file in page["files"]}
    html = farm.farm.get(f"simple/{PACKAGE}/", Accept="text/html").text
    linked = dict(re.findall(r'href="([^"#]+)#sha256=([0-9a-f]{64})"', html))
    return [
        f"not the same on record and in {kind}: {file}"
        for kind, files in (("JSON", listed), ("HTML", linked))
        for file in files.items() ^ record.items()
    ]


def _on_record(farm: HurtFarm) -> dict[str, str]:
    """SHA-256 by filename."""
    return dict(farm.look("SELECT name, sha256 FROM files"))
