import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkner_ray.errors import ConfigError, ContractError, DataError
from linkner_ray.runs.finished import FinishedRun, read_part
from linkner_ray.runs.folder import RunFolder, UnitResult, parquet_bytes
from linkner_ray.runs.manifest import FileList, read_entries, read_manifest
from linkner_ray.runs.units import Source
from linkner_ray.schemas import OUTPUT, QUARANTINE
from linkner_ray.storage import Folder

PLAN = {"schema_version": 1, "config": {"routing": {"threshold": 0.1}}}


def unit_result(first_record=0, **changes):
    fingerprint = {
        "unit": f"abc-{first_record:010d}",
        "source": "a.parquet",
        "first_record": first_record,
        "num_records": 1,
        "is_last": False,
        "counts": {"documents_entities": 0, "documents_empty": 1},
    }
    return UnitResult(**{**fingerprint, **changes})


def output_rows():
    row = dict.fromkeys(OUTPUT.names, 0) | {
        "doc_id": "1", "url": None, "lang": None, "doc_digest": "", "status": "empty",
        "entities": [],
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=OUTPUT)


def quarantine_rows():
    row = dict.fromkeys(QUARANTINE.names) | {
        "path": "a", "reason": "null_text", "detail": "", "num_chars": 0,
    }  # fmt: skip
    return pa.Table.from_pylist([row], schema=QUARANTINE)


def commit(run, unit_result, quarantine=None):
    return run.commit(
        unit_result,
        entities=output_rows(),
        quarantine=QUARANTINE.empty_table() if quarantine is None else quarantine,
        candidates=None,
    )


def test_a_unit_result_is_read_back_from_its_part_file(tmp_path):
    run = RunFolder(str(tmp_path / "out"))
    run.begin({"plan": PLAN})
    commit(run, unit_result(0))
    commit(run, unit_result(7, is_last=True))
    assert RunFolder(str(tmp_path / "out")).unit_results() == [
        unit_result(0),
        unit_result(7, is_last=True),
    ]


def test_a_unit_written_again_gives_the_same_bytes(tmp_path):
    run = RunFolder(str(tmp_path))
    commit(run, unit_result())
    first = (tmp_path / "entities/part-abc-0000000000.parquet").read_bytes()
    commit(run, unit_result(seconds={"RecognizeSpans": 1.5}))
    assert (tmp_path / "entities/part-abc-0000000000.parquet").read_bytes() == first


def test_quarantine_is_written_only_where_there_is_any(tmp_path):
    run = RunFolder(str(tmp_path))
    commit(run, unit_result(0))
    commit(run, unit_result(1), quarantine=quarantine_rows())
    assert [path.name for path in (tmp_path / "_quarantine").iterdir()] == [
        "part-abc-0000000001.parquet"
    ]


def test_a_folder_of_another_run_is_refused_with_the_difference_named(tmp_path):
    RunFolder(str(tmp_path)).begin({"plan": PLAN})
    other = {"schema_version": 1, "config": {"routing": {"threshold": 0.4}}}
    with pytest.raises(ConfigError, match=r"config.routing.threshold was 0.1, is 0.4"):
        RunFolder(str(tmp_path)).begin({"plan": other})


@pytest.mark.parametrize(
    "name",
    [
        "entities/part-abc-0000000000.parquet",
        "candidates/part-00000.parquet",
        "_quarantine/part-00000.parquet",
        "_SUCCESS",
        "_manifest.json",
        "report.html",
    ],
)
def test_a_folder_with_what_no_run_wrote_is_refused_and_stays(tmp_path, name):
    folder = Folder.at(str(tmp_path))
    folder.write_whole(name, b"mine")
    with pytest.raises(ConfigError, match=rf"holds {name.partition('/')[0]}, and .*_run.json"):
        RunFolder(str(tmp_path)).begin({"plan": PLAN})
    assert folder.read_bytes(name) == b"mine"
    assert not folder.exists("_run.json")


def test_what_a_run_does_not_write_may_lie_beside_it(tmp_path):
    for name in ("notes.txt", ".hidden", "logs/driver.log"):
        Folder.at(str(tmp_path)).write_whole(name, b"mine")
    RunFolder(str(tmp_path)).begin({"plan": PLAN})
    assert (tmp_path / "logs" / "driver.log").read_bytes() == b"mine"


@pytest.mark.parametrize("below", ["entities", "candidates", "_quarantine"])
def test_a_foreign_part_file_in_a_run_is_named_and_stays(tmp_path, below):
    run = RunFolder(str(tmp_path))
    run.begin({"plan": PLAN})
    commit(run, unit_result(0))
    run.folder.write_whole(f"{below}/part-00000.parquet", b"mine")
    with pytest.raises(ConfigError, match=rf"holds {below}/part-00000.parquet, which no run wrote"):
        RunFolder(str(tmp_path)).begin({"plan": PLAN})
    assert run.folder.read_bytes(f"{below}/part-00000.parquet") == b"mine"


def test_only_uploads_of_part_files_are_aborted(s3):
    import boto3

    client = boto3.client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"])
    client.create_bucket(Bucket="bucket")
    ours = "entities/part-abc-0000000000.parquet"
    foreign = [
        "backup.tar",
        "entities/part-00000.parquet",
        "entities/x/part-abc-0000000000.parquet",
    ]
    for key in (ours, *foreign):
        client.create_multipart_upload(Bucket="bucket", Key=key)
    RunFolder("s3://bucket").abort_uploads()
    left = client.list_multipart_uploads(Bucket="bucket")["Uploads"]
    assert sorted(upload["Key"] for upload in left) == sorted(foreign)


def test_a_part_file_without_a_unit_result_is_named(tmp_path):
    (tmp_path / "entities").mkdir()
    pq.write_table(output_rows(), tmp_path / "entities/part-x.parquet")
    with pytest.raises(ContractError, match=r"part-x.parquet carries no unit result"):
        RunFolder(str(tmp_path)).unit_results()


@pytest.mark.parametrize("place", [slice(-9, None), slice(-60, -30)])
def test_a_damaged_part_file_is_named(tmp_path, place):
    run = RunFolder(str(tmp_path))
    commit(run, unit_result())
    part = tmp_path / "entities/part-abc-0000000000.parquet"
    content = bytearray(part.read_bytes())
    content[place] = b"" if place.stop is None else b"\xff" * 30
    part.write_bytes(content)
    with pytest.raises(DataError, match=r"part-abc-0000000000.parquet is damaged"):
        run.unit_results()
    with pytest.raises(DataError, match=r"part-abc-0000000000.parquet is damaged"):
        read_entries(run.folder, ["entities/part-abc-0000000000.parquet"])


def test_a_damaged_page_of_a_part_file_is_named(tmp_path):
    """Arrow raises an OSError for it, as a disk would."""
    run = RunFolder(str(tmp_path))
    commit(run, unit_result())
    part = tmp_path / "entities/part-abc-0000000000.parquet"
    content = bytearray(part.read_bytes())
    content[6] ^= 0xFF
    part.write_bytes(content)
    with pytest.raises(DataError, match=r"part-abc-0000000000.parquet is missing or damaged"):
        read_part(run.folder, f"entities/{part.name}", ["doc_id"])


@pytest.mark.parametrize("content", ["{}", "[]", "no json", '{"config": {}, "label_set": {}}'])
def test_a_run_json_that_no_run_wrote_is_named_and_stays(tmp_path, content):
    for name in ("_run.json", "_SUCCESS", "_manifest.json"):
        (tmp_path / name).write_text(content)
    for look in (lambda: RunFolder(str(tmp_path)).begin({"plan": PLAN}),
                 lambda: FinishedRun.open(str(tmp_path))):  # fmt: skip
        with pytest.raises(DataError, match=r"_run.json is damaged"):
            look()
    assert (tmp_path / "_run.json").read_text() == content
    (tmp_path / "_run.json").write_text(json.dumps({"plan": PLAN}))
    with pytest.raises(DataError, match=r"_run.json is damaged"):
        FinishedRun.open(str(tmp_path))


def test_finishing_lists_every_file_with_its_rows_and_marks_success(tmp_path):
    run = RunFolder(str(tmp_path))
    assert not run.is_complete
    files = FileList(commit(run, unit_result(7)) + commit(run, unit_result(0), quarantine_rows()))
    source = Source(path=unit_result(0).source, format="jsonl", size=9, version="v")
    units = [unit_result(7), unit_result(0)]
    run.finish(units, files, {"totals": {"a": 2}}, sources={"abc": source})
    listed = pq.read_table(tmp_path / "_manifest.parquet").to_pylist()
    quarantine, *entities = listed
    assert [file["path"] for file in entities] == [
        "entities/part-abc-0000000000.parquet",
        "entities/part-abc-0000000007.parquet",
    ]
    made_from = {"source": source.path, "source_format": "jsonl", "source_bytes": 9}
    for file in entities:
        assert {**file, **made_from, "rows": 1, "source_version": "v"} == file
    content = (tmp_path / quarantine["path"]).read_bytes()
    assert quarantine == {
        "path": "_quarantine/part-abc-0000000000.parquet",
        "rows": 1,
        "bytes": len(content),
        "digest": hashlib.blake2b(content, digest_size=16).hexdigest(),
        **dict.fromkeys((*made_from, "source_version")),
    }
    header = json.loads((tmp_path / "_manifest.json").read_text())
    assert header["totals"] == {"a": 2}
    assert {**header["files"], "count": 3, "rows": 3} == header["files"]
    assert run.is_complete
    (tmp_path / "_manifest.parquet").write_bytes(b"of another run")
    with pytest.raises(DataError, match=r"is not the list that _manifest.json names"):
        read_manifest(run.folder)
    assert run.is_complete


def test_a_unit_whose_file_has_other_rows_than_its_unit_result_stops_the_run(tmp_path):
    run = RunFolder(str(tmp_path))
    lies = unit_result(0, counts={"documents_entities": 1, "documents_empty": 1})
    with pytest.raises(ContractError, match=r"part-abc-0000000000.parquet has 1 rows, .* 2"):
        run.finish([lies], FileList(commit(run, lies)), {})
    with pytest.raises(ContractError, match=r"part-abc-0000000000.parquet has no rows"):
        run.finish([unit_result()], FileList(), {})
    assert not run.is_complete


def test_a_folder_begun_by_other_code_is_refused_with_the_difference_named(tmp_path):
    RunFolder(str(tmp_path)).begin({"plan": PLAN, "code": {"sources": "aa", "pyarrow": "1"}})
    with pytest.raises(ConfigError, match=r"begun by other code.* code.sources was 'aa', is 'bb'"):
        RunFolder(str(tmp_path)).begin({"plan": PLAN, "code": {"sources": "bb", "pyarrow": "1"}})
    RunFolder(str(tmp_path)).check(PLAN)  # what is finished may be looked at by any code


def test_beginning_takes_the_marks_and_what_killed_writers_left(tmp_path):
    run = RunFolder(str(tmp_path))
    run.begin({"plan": PLAN})
    run.finish([unit_result()], FileList(commit(run, unit_result())), {})
    (tmp_path / "entities" / f".part-abc-0000000009.parquet.linkner-{'a' * 32}").write_bytes(
        b"half"
    )
    (tmp_path / "entities" / ".of-somebody-else").write_bytes(b"")
    assert [found.first_record for found in run.unit_results()] == [0]
    RunFolder(str(tmp_path)).begin({"plan": PLAN})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_run.json", "entities"]
    assert sorted(path.name for path in (tmp_path / "entities").iterdir()) == [
        ".of-somebody-else",
        "part-abc-0000000000.parquet",
    ]


def test_equal_tables_in_other_chunks_give_equal_bytes():
    table = pa.concat_tables([output_rows(), output_rows()])
    assert table["doc_id"].num_chunks == 2
    assert parquet_bytes(table) == parquet_bytes(table.combine_chunks())
