"""Rows of part files in any order: the right ones, with few reads."""

import random
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkner_ray.errors import DataError
from linkner_ray.runs import part_cache
from linkner_ray.runs.part_cache import PartCache

NUM_FILES, NUM_ROWS = 12, 5


@pytest.fixture
def folder(tmp_path):
    for file in range(NUM_FILES):
        rows = [{"n": NUM_ROWS * file + row, "list": [{"x": row}]} for row in range(NUM_ROWS)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{file}")
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Reads of each file, by name."""
    counts, read_part = Counter(), part_cache.read_part

    def counted(folder, name, columns):
        counts[name] += 1
        return read_part(folder, name, columns)

    monkeypatch.setattr(part_cache, "read_part", counted)
    return counts


def rows_of(cache, order):
    return [
        cache.table(str(n // NUM_ROWS), ["n", "list"]).slice(n % NUM_ROWS, 1).to_pylist()[0]
        for n in order
    ]


def expected(order):
    return [{"n": n, "list": [{"x": n % NUM_ROWS}]} for n in order]


def test_in_the_order_of_the_files_each_is_read_once(folder, reads):
    cache = PartCache(str(folder), size=1)
    order = range(NUM_FILES * NUM_ROWS)
    assert rows_of(cache, order) == expected(order)
    assert set(reads.values()) == {1}


def test_in_any_order_each_file_is_read_twice_at_most(folder, reads):
    cache = PartCache(str(folder), size=2)
    order = random.Random(0).sample(range(NUM_FILES * NUM_ROWS), NUM_FILES * NUM_ROWS) * 2
    assert rows_of(cache, order) == expected(order)
    assert len(reads) == NUM_FILES
    assert max(reads.values()) == 2


def test_what_is_mapped_leaves_no_file_behind(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    Path(tempfile.gettempdir()).mkdir()
    cache = PartCache(str(folder), size=1)
    order = [0, NUM_ROWS, 0, NUM_ROWS, 0]
    assert rows_of(cache, order) == expected(order)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_disk_that_is_nearly_full_is_not_filled(folder, reads, monkeypatch):
    monkeypatch.setattr(part_cache, "_MIN_FREE_SHARE", 1.0)
    cache = PartCache(str(folder), size=1)
    order = [0, NUM_ROWS] * 3
    assert rows_of(cache, order) == expected(order)
    assert reads == {"0": 3, "1": 3}


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"entities/part-1 is missing or damaged"):
        PartCache(str(tmp_path), size=1).table("entities/part-1", ["n"])
