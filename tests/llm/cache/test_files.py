import io
import re

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.errors import DataError
from linkner_ray.llm.cache import files as cache_files
from linkner_ray.llm.cache.files import (
    ENTRIES,
    CacheFolder,
    OtherVersionError,
    entries_table,
    format_entries,
)
from tests.llm.caches import CLASSES, entry, key, unsure

TABLE = entries_table([entry(1), unsure(2), entry(3, score=0.75)], CLASSES)
CONTENT = format_entries(TABLE)


def parse_entries(content, path):
    return pa.concat_tables(cache_files.read_entries(io.BytesIO(content), path))


def test_what_is_written_is_read_again():
    assert parse_entries(CONTENT, "x").equals(TABLE)


def test_a_file_is_read_some_rows_at_a_time_with_each_class_name_held_once(monkeypatch):
    monkeypatch.setattr(cache_files, "_ROWS_AT_A_TIME", 2)
    parts = list(cache_files.read_entries(io.BytesIO(CONTENT), "x"))
    assert [part.num_rows for part in parts] == [2, 1]
    names = parts[0]["probs"].combine_chunks().flatten().field("class")
    assert names.dictionary.to_pylist() == list(CLASSES)


def test_an_empty_table_is_a_file_too():
    content = format_entries(TABLE.slice(0, 0))
    assert list(cache_files.read_entries(io.BytesIO(content), "x")) == []


@given(st.data())
def test_a_changed_byte_is_found_out_wherever_it_is(data):
    position = data.draw(st.integers(0, len(CONTENT) - 1))
    flipped = data.draw(st.integers(1, 255))
    changed = bytearray(CONTENT)
    changed[position] ^= flipped
    with pytest.raises(DataError):
        parse_entries(bytes(changed), "x")


@given(st.integers(0, len(CONTENT) - 1))
def test_a_file_cut_short_is_found_out_wherever_it_ends(length):
    with pytest.raises(DataError, match="x: is not a whole Parquet file"):
        parse_entries(CONTENT[:length], "x")


def test_other_parquet_is_not_taken_for_a_cache():
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    with pytest.raises(DataError, match="not a file of an answer cache"):
        parse_entries(sink.getvalue(), "x")


def test_a_file_of_another_version_is_told_from_a_broken_one(monkeypatch):
    monkeypatch.setattr(cache_files, "VERSION", "2")
    content = format_entries(TABLE)
    monkeypatch.undo()
    with pytest.raises(OtherVersionError, match="version 2, this release reads 1"):
        parse_entries(content, "x")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("key", "k1:short", "not the name of a request"),
        ("key", f"{key(1)}0", "not the name of a request"),
        ("verdict", "failed", "none of those that are stored"),
    ],
)
def test_a_whole_file_with_impossible_values_is_not_trusted(column, value, message):
    place = ENTRIES.names.index(column)
    wrong = TABLE.set_column(place, ENTRIES.field(column), pa.array([value] * TABLE.num_rows))
    with pytest.raises(DataError, match=message):
        parse_entries(format_entries(wrong), "x")


def test_any_parquet_reader_understands_it(tmp_path):
    path = tmp_path / "answers.parquet"
    path.write_bytes(CONTENT)
    probs = pq.read_table(path).schema.field("probs").type.value_type
    assert probs.equals(pa.struct([("class", pa.string()), ("prob", pa.float32())]))
    file = duckdb.read_parquet(str(path))
    probs = file.project("label, year(time) AS year, unnest(probs) AS p")
    rows = probs.filter("p.class = 'ORG'").project("label, year, p.prob").order("3").fetchall()
    assert rows == [("PER", 2026, 0.25), ("PER", 2026, 0.5)]


def test_a_folder_lists_compacted_files_first_and_names_what_is_foreign(tmp_path):
    folder = CacheFolder(str(tmp_path / "cache"))
    assert folder.list() == ([], [], {})
    assert folder.list().next_number == 0
    folder.append(7, TABLE)
    folder.append(2, TABLE)
    folder.write_compacted(4, [TABLE])
    (tmp_path / "cache" / "notes.txt").write_text("hello")
    (tmp_path / "cache" / ".answers-0000000008.parquet.0123").write_text("half")
    (tmp_path / "cache" / "_set_aside").mkdir()
    names, foreign, versions = folder.list()
    assert names == [
        "compacted-0000000004.parquet", "answers-0000000002.parquet", "answers-0000000007.parquet"
    ]  # fmt: skip
    assert foreign == ["notes.txt"]
    assert len({versions[name] for name in names}) == 3
    assert folder.list().next_number == 8


def test_a_broken_file_is_moved_out_of_the_way(tmp_path):
    folder = CacheFolder(str(tmp_path))
    (tmp_path / "answers-0000000000.parquet").write_bytes(CONTENT[:-9])
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        next(folder.read("answers-0000000000.parquet"))
    version = folder.list().versions["answers-0000000000.parquet"]
    assert folder.set_aside("answers-0000000000.parquet", "of another file")
    assert folder.list().names == ["answers-0000000000.parquet"]
    for _ in range(2):
        assert folder.set_aside("answers-0000000000.parquet", version)
    assert (tmp_path / "_set_aside" / "answers-0000000000.parquet").read_bytes() == CONTENT[:-9]
    assert folder.list() == ([], [], {})
