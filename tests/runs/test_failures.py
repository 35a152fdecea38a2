from pathlib import Path

import pyarrow as pa
import pytest

from linkner_ray.errors import DataError
from linkner_ray.runs.failures import (
    Wanted,
    failures_of,
    find_failed_shards,
    read_failures,
    remove_leftovers,
    requeue,
)
from linkner_ray.runs.folder import RunFolder, UnitResult
from linkner_ray.runs.manifest import FileList
from linkner_ray.runs.units import Source, unit_name
from linkner_ray.schemas import CANDIDATES_OUTPUT, OUTPUT, QUARANTINE
from linkner_ray.storage import Folder

ALL = Wanted()


def rows_of(run, units, wanted=ALL):
    return [row for table in read_failures(run, units, wanted) for row in table.to_pylist()]


def source(path, version="1"):
    return Source(path=path, format="jsonl", size=9, version=version)


def unit(path, first_record=0, **counts):
    return UnitResult(
        unit=unit_name(source(path).digest("plan"), first_record),
        source=path,
        first_record=first_record,
        num_records=5,
        is_last=False,
        counts={"documents_entities": 0, "documents_empty": 0, "routed": 0, **counts},
    )


UNITS = [
    unit("in/a.jsonl"),
    unit("in/a.jsonl", 5, quarantine_bad_json=2, quarantine_null_text=1),
    unit("in/b.jsonl", quarantine_null_text=1),
    unit("in/c.jsonl", verdict_failed=3, audit_failed_PER=1),
]


@pytest.fixture
def run(tmp_path):
    return finished(str(tmp_path / "out"))


def finished(url):
    """The output of a run that ended."""
    folder = RunFolder(url)
    folder.begin({"plan": {}})
    files = []
    for unit_result in UNITS:
        rows = [
            {
                "path": unit_result.source,
                "record": unit_result.first_record + index,
                "reason": reason,
                "detail": "d",
                "num_chars": 0,
            }
            for reason, count in failures_of(unit_result).items()
            if reason != "failed_answer"
            for index in range(count)
        ]
        files += folder.commit(
            unit_result,
            entities=OUTPUT.empty_table(),
            quarantine=pa.Table.from_pylist(rows, schema=QUARANTINE),
            candidates=CANDIDATES_OUTPUT.empty_table(),
        )
    folder.finish(folder.unit_results(), FileList(files), {})
    return folder


def find(wanted=ALL, now=source):
    found = find_failed_shards(UNITS, wanted, plan_digest="plan", source_now=now)
    return {s.path: (s.state, [u.first_record for u in s.units], dict(s.reasons)) for s in found}


def names(run):
    files = (path for path in Path(run.url).rglob("*") if path.is_file())
    return sorted(path.relative_to(run.url).as_posix() for path in files)


def test_of_a_shard_that_is_as_it_was_only_units_with_failures_are_chosen():
    assert find() == {
        "in/a.jsonl": ("unchanged", [5], {"bad_json": 2, "null_text": 1}),
        "in/b.jsonl": ("unchanged", [0], {"null_text": 1}),
        "in/c.jsonl": ("unchanged", [0], {"failed_answer": 4}),
    }


def test_of_a_repaired_shard_all_units_are_chosen():
    assert find(now=lambda path: source(path, "2"))["in/a.jsonl"][:2] == ("changed", [0, 5])


def test_a_shard_that_is_gone_is_called_so():
    assert find(now=lambda _: None)["in/b.jsonl"][0] == "gone"


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        (Wanted(reasons=("bad_json",)), ["in/a.jsonl"]),
        (
            Wanted(reasons=("null_text", "failed_answer")),
            ["in/a.jsonl", "in/b.jsonl", "in/c.jsonl"],
        ),
        (Wanted(files=("in/[ab]*",)), ["in/a.jsonl", "in/b.jsonl"]),
        (Wanted(files=("in/b.jsonl",), reasons=("bad_json",)), []),
    ],
)
def test_failures_are_chosen_by_reason_and_file(wanted, paths):
    assert list(find(wanted)) == paths


def test_rows_are_read_by_place_and_only_those_wanted(run):
    rows = rows_of(run, run.unit_results())
    assert [(row["path"], row["record"]) for row in rows] == [
        ("in/a.jsonl", 5),
        ("in/a.jsonl", 5),
        ("in/a.jsonl", 6),
        ("in/b.jsonl", 0),
    ]
    assert len(rows_of(run, run.unit_results(), Wanted(reasons=("bad_json",)))) == 2
    assert rows_of(run, UNITS[:1]) == []


def test_rows_are_read_a_few_units_at_a_time(run, monkeypatch):
    asked = []
    read = run.folder.read_bytes
    monkeypatch.setattr("linkner_ray.runs.part_work.PIECE_FILES", 1)
    monkeypatch.setattr(Folder, "read_bytes", lambda _, name: asked.append(name) or read(name))
    units = run.unit_results()
    asked.clear()
    tables = read_failures(run, units, ALL)
    assert {row["path"] for row in next(tables).to_pylist()} == {"in/a.jsonl"}
    assert len(asked) == 1


def test_a_damaged_quarantine_file_is_named(run):
    run.folder.write_whole(f"_quarantine/part-{UNITS[2].unit}.parquet", b"no parquet")
    with pytest.raises(DataError, match=f"part-{UNITS[2].unit}.parquet is damaged"):
        rows_of(run, run.unit_results())


def test_requeued_units_leave_nothing_behind_and_the_run_is_no_longer_complete(run):
    before = names(run)
    requeue(run, find_failed_shards(UNITS, ALL, plan_digest="plan", source_now=source))
    gone = {name for name in before if any(u.unit in name for u in UNITS[1:])}
    assert set(before) - set(names(run)) == gone | {
        "_SUCCESS",
        "_manifest.json",
        "_manifest.parquet",
    }
    assert [unit_result.unit for unit_result in run.unit_results()] == [UNITS[0].unit]


@pytest.mark.parametrize("num_removals", range(10))
def test_a_requeue_that_is_cut_off_leaves_a_run_that_goes_on(run, monkeypatch, num_removals):
    """Whatever is left, no unit counts as done whose files are not all there."""
    chosen = find_failed_shards(UNITS, ALL, plan_digest="plan", source_now=source)
    removed = []

    def remove(folder, name):
        if len(removed) == num_removals:
            raise KeyboardInterrupt
        removed.append(name)
        folder.filesystem.rm_file(folder.path(name))

    with monkeypatch.context() as patch:
        patch.setattr("linkner_ray.runs.part_work.THREADS", 1)
        patch.setattr("linkner_ray.storage.Folder.remove", remove)
        with pytest.raises(KeyboardInterrupt):
            requeue(run, chosen)
    assert num_removals == 0 or not run.is_complete
    done = run.unit_results()
    remove_leftovers(run, done)
    finished = {unit_result.unit for unit_result in done}
    for unit_result in UNITS:
        files = [name for name in names(run) if unit_result.unit in name]
        has_rows = any(reason != "failed_answer" for reason in failures_of(unit_result))
        whole = 2 + has_rows
        assert len(files) == (whole if unit_result.unit in finished else 0)


@pytest.mark.usefixtures("s3")
def test_units_on_an_object_store_are_taken_out():
    import s3fs

    s3fs.S3FileSystem().mkdir("failures")
    run = finished("s3://failures/out")
    assert len(rows_of(run, run.unit_results())) == 4
    requeue(run, find_failed_shards(UNITS, ALL, plan_digest="plan", source_now=source))
    assert [unit_result.unit for unit_result in run.unit_results()] == [UNITS[0].unit]
    assert not run.is_complete
    assert run.folder.names("_quarantine") == []
    assert run.folder.names("candidates") == [f"part-{UNITS[0].unit}.parquet"]
