from itertools import pairwise

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkner_ray.config import InputConfig
from linkner_ray.errors import StoreError
from linkner_ray.readers import check_sources, list_sources, read_units
from linkner_ray.schemas import DOCUMENTS, QUARANTINE
from tests.crawl import write_crawl, write_parquet
from tests.failing_store import s3_error, store
from tests.hostile import _parquet
from tests.readers.conftest import gzip_members, warc_record

__all__ = ["store"]


@pytest.fixture
def memory_folder():
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/shards", recursive=True)


def test_every_format_is_read_from_a_url(memory_folder):
    with memory_folder.open("/shards/a.parquet", "wb") as file:
        pq.write_table(pa.table({"text": ["parquet"]}), file)
    memory_folder.pipe_file("/shards/b.jsonl.gz", gzip_members(b'{"text": "jsonl"}\n'))
    memory_folder.pipe_file("/shards/c.wet.gz", gzip_members(warc_record("conversion", b"wet")))
    config = InputConfig(paths=("memory://shards",))
    sources = list_sources(config)
    check_sources(sources, config)
    units = [
        unit
        for source in sources
        for unit in read_units(source, config=config, errors_raw_chars=9, done={})
    ]
    texts = [text for unit in units for text in unit.documents["text"].to_pylist()]
    assert texts == ["parquet", "jsonl", "wet"]


SHARDS = {
    "parquet": _parquet({str(i): f"text {i}" for i in range(40)}),
    "jsonl": b"".join(b'{"text": "text %d"}\n' % i for i in range(40)),
    "wet": b"".join(warc_record("conversion", b"text %d" % i) for i in range(40)),
    "warc": gzip_members(*(warc_record("conversion", b"text %d" % i) for i in range(40))),
}


@pytest.mark.parametrize("kind", SHARDS)
def test_a_store_that_fails_costs_no_document_and_stops_the_run(store, kind):
    path = f"scripted:///in/a.{kind}"
    store().pipe_file(f"/in/a.{kind}", SHARDS[kind])
    config = InputConfig(paths=(path,), unit_documents=10)

    def read():
        sources = list_sources(config)
        check_sources(sources, config)
        return list(read_units(sources[0], config=config, errors_raw_chars=9, done={}))

    store.asked.clear()
    whole = read()
    num_asked = len(store.asked)
    assert sum(unit.documents.num_rows for unit in whole) == 40
    for place in range(num_asked):
        store.script[:] = [None] * place + [s3_error("SlowDown")] * 2
        assert read() == whole
        store.script[:] = [None] * place + [s3_error("InternalError")] * 99
        with pytest.raises(StoreError, match="the store fails"):
            read()
        store.script[:] = [None] * place + [s3_error("ExpiredToken")]
        with pytest.raises(StoreError, match="the store refuses"):
            read()


@pytest.mark.parametrize("name", ["a.jsonl", "gone.parquet"])
def test_a_local_file_that_cannot_be_opened_is_quarantined(tmp_path, read, name):
    (tmp_path / "a.jsonl").mkdir()
    shard = read(tmp_path / name, name.partition(".")[2])
    assert shard.reasons == [(None, "unreadable_file")]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "b.jsonl.gz", "a.wet"])
def test_an_empty_shard_is_one_unit_without_records(tmp_path, read, name):
    (tmp_path / name).touch()
    write_parquet(tmp_path / "a.parquet", [])
    [unit] = read(tmp_path / name, name.split(".")[1]).units
    assert (unit.first_record, unit.num_records, unit.is_last) == (0, 0, True)
    assert unit.documents.schema.equals(DOCUMENTS)
    assert unit.quarantine.schema.equals(QUARANTINE)


def test_units_cover_their_shard_without_gap_whatever_is_done(tmp_path):
    config = InputConfig(paths=(str(write_crawl(tmp_path / "crawl")),), unit_documents=2)
    for source in list_sources(config):

        def read(done, source=source):
            units = read_units(source, config=config, errors_raw_chars=9, done=done)
            return {unit.first_record: (unit.begins, unit.ends) for unit in units}

        whole = read({})
        ranges = list(whole.values())
        assert len(ranges) > 1
        assert (ranges[0][0], ranges[-1][1]) == (0.0, 1.0)
        assert all(left[1] == right[0] for left, right in pairwise(ranges))
        assert all(begins <= ends for begins, ends in ranges)
        odd = list(whole)[1::2]
        assert read(dict.fromkeys(odd, 2)) == {n: r for n, r in whole.items() if n not in odd}


def test_rows_of_parquet_are_exact_shares_of_their_shard(tmp_path):
    write_parquet(tmp_path / "a.parquet", ["a"] * 8, group=4)
    config = InputConfig(paths=(str(tmp_path),), unit_documents=2)
    [source] = list_sources(config)
    units = read_units(source, config=config, errors_raw_chars=9, done={})
    assert [(unit.begins, unit.ends) for unit in units] == [
        (0.0, 0.25),
        (0.25, 0.5),
        (0.5, 0.75),
        (0.75, 1.0),
    ]


@pytest.mark.external
def test_a_single_gzip_member_of_25_pages_is_read(linkner_data, read):
    path = linkner_data / "web" / "cc_wet_scalatools" / "filter_test_1.wet.gz"
    shard = read(path, "wet", unit_documents=10)
    assert [len(unit.documents) for unit in shard.units] == [10, 10, 5]
    assert shard.quarantine == []


@pytest.mark.external
def test_the_crawl_sample_has_178_texts_and_2_null_rows(linkner_data, read):
    shards = [read(path, "parquet") for path in sorted((linkner_data / "web/crawl").glob("*"))]
    assert sum(len(shard.documents) for shard in shards) == 178
    reasons = [reason for shard in shards for _, reason in shard.reasons]
    assert reasons == ["null_text", "null_text"]
