import numpy as np
import pyarrow as pa
import pytest

from linkner_ray.errors import DataError
from linkner_ray.runs.folder import RunFolder, parquet_bytes
from linkner_ray.runs.manifest import (
    FileList,
    read_entries,
    verify_output,
    with_sources,
    written_files,
)
from linkner_ray.runs.units import Source
from linkner_ray.storage import Folder
from tests.runs.test_folder import commit, quarantine_rows, unit_result


@pytest.fixture
def output(tmp_path):
    """A finished run of two units, one with quarantine."""
    run = RunFolder(str(tmp_path))
    files = FileList(commit(run, unit_result(0), quarantine_rows()) + commit(run, unit_result(1)))
    run.finish([unit_result(0), unit_result(1)], files, {})
    return Folder.at(str(tmp_path))


def test_an_output_as_it_was_written_is_what_its_manifest_says(output):
    assert verify_output(output) == (3, [])


def test_facts_read_back_are_those_of_the_writer(tmp_path):
    run = RunFolder(str(tmp_path))
    written = commit(run, unit_result(0), quarantine_rows())
    read = read_entries(run.folder, written_files(run.folder))
    assert sorted(read, key=str) == sorted(written, key=str)


def test_what_is_no_value_leaves_no_trace_of_memory():
    """Arrow leaves anything where a value is null, and Parquet wrote it: equal runs differed."""
    sources = [Source(path=name, format="jsonl", size=7, version="1") for name in "ab"]
    paths = pa.array(["entities/1", "entities/0"])
    listed = pa.table({"path": ["_quarantine/0", "entities/0", "entities/1", "entities/2"]})
    table = with_sources(listed, paths=paths, places=[1, 0], sources=sources)
    assert table["source"].to_pylist() == [None, "a", "b", None]
    assert table["source_bytes"].to_pylist() == [None, 7, 7, None]
    for name, kind in (("source", np.int32), ("source_bytes", np.int64)):
        column = table[name].chunk(0)
        values = column if name == "source_bytes" else column.indices
        stored = np.frombuffer(values.buffers()[1], kind)[: len(values)]
        assert stored[values.is_null().to_numpy(zero_copy_only=False)].tolist() == [0, 0]


def test_every_way_to_differ_is_named(output):
    one, two = written_files(output)[:2]
    output.write_whole(one, parquet_bytes(pa.table({"a": [1, 2, 3]})))
    output.write_whole(two, output.read_bytes(two)[:-5])
    output.write_whole("entities/part-x.parquet", b"")
    output.remove("_quarantine/part-abc-0000000000.parquet")
    faults = verify_output(output)[1]
    assert faults[0] == "_quarantine/part-abc-0000000000.parquet is listed but missing"
    assert faults[1] == "entities/part-x.parquet is there but not listed"
    assert faults[2].startswith(f"{one} has 3 rows in ")
    assert faults[3].startswith(f"{two} is damaged")


def test_one_flipped_bit_is_found(output):
    path = written_files(output)[0]
    content = bytearray(output.read_bytes(path))
    content[20] ^= 1
    output.write_whole(path, bytes(content))
    assert len(verify_output(output)[1]) == 1


def test_a_run_that_has_not_ended_cannot_be_verified(output):
    output.remove("_SUCCESS")
    with pytest.raises(DataError, match="its run has not ended"):
        verify_output(output)
