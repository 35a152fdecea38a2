"""Two hundred damaged files, and those that others have collected, through the readers."""

import random

import pyarrow.parquet as pq
import pytest

from linkner_ray.config import InputConfig
from linkner_ray.readers import check_sources, count_units
from linkner_ray.runs.units import Source
from tests.hostile import KINDS, PACKINGS, doc_id_of, hostile_texts, mutate
from tests.readers.conftest import warc_record

NUM_FILES = 200
NUM_DOCUMENTS = 2 * len(KINDS)
FILES_EACH = -(-NUM_FILES // len(PACKINGS))

REASONS = {
    "bad_json", "corrupt_row_group", "corrupt_stream", "duplicate_column", "excessive_markup",
    "invalid_unicode", "invalid_utf8",
    "malformed_http", "malformed_record", "missing_column", "missing_text", "not_an_object",
    "null_text", "too_long", "truncated_record", "unreadable_file", "unsupported_arc", "wrong_type",
}  # fmt: skip
"""Every reason a reader may give."""

OF_FILES = {
    "corrupt_stream", "missing_column", "unreadable_file", "unsupported_arc", "wrong_type",
}  # fmt: skip
"""Those of a file, or of all of it that follows."""

SKIPPED = {
    "blank_line", "continuation", "garbled", "metadata", "no_language", "no_type", "request",
    "resource_not_text", "response_not_html", "response_not_http", "revisit", "unknown_type",
    "warcinfo",
}  # fmt: skip
"""Every reason for which a record is no document; a run has a counter for each."""


@pytest.fixture(scope="module")
def sound():
    """A sound file of each packing, and its texts by document id."""
    texts = {str(i): text for i, text in enumerate(hostile_texts(NUM_DOCUMENTS, seed=7))}
    return {name: packing.pack(texts) for name, packing in PACKINGS.items()}, texts


def check_quarantine(shard, size=None):
    """Every row says why and where, in few words."""
    assert {row["reason"] for row in shard.quarantine} <= REASONS
    assert set(shard.skipped) <= SKIPPED
    for row in shard.quarantine:
        assert row["detail"]
        assert len(row["detail"]) <= 1_000
        assert row["raw"] is None or len(row["raw"]) <= 40
        if row["record"] is None:
            assert row["reason"] in OF_FILES
        else:
            assert 0 <= row["record"] < sum(unit.num_records for unit in shard.units)
            of_stream = row["byte_offset"] is not None
            assert of_stream or row["path"].endswith(".parquet")
        if size is not None and row["byte_offset"] is not None:
            assert 0 <= row["byte_offset"] <= size


@pytest.mark.parametrize("name", PACKINGS)
def test_damaged_files_are_read_or_quarantined(tmp_path, read, sound, name):
    contents, _ = sound
    for index in range(FILES_EACH):
        content = mutate(contents[name], random.Random(f"{name}{index}"))
        check_damaged(tmp_path / f"{index}{PACKINGS[name].file_name}", content, read, name)


def check_damaged(path, content, read, name):
    """A file is read to its end, and its units follow each other."""
    packing = PACKINGS[name]
    path.write_bytes(content)
    shard = read(path, packing.shard_format, unit_documents=7)
    compressed = path.suffix in {".gz", ".zst"}
    check_quarantine(shard, None if compressed else len(content))
    assert shard.units[-1].is_last
    positions = [unit.first_record for unit in shard.units]
    counts = [unit.num_records for unit in shard.units]
    assert positions == [sum(counts[:place]) for place in range(len(counts))]
    source = Source(path=str(path), format=packing.shard_format, size=len(content), version="1")
    config = InputConfig(paths=(str(path),), unit_documents=7)
    assert count_units(source, config) in {None, len(shard.units)}
    check_sources([source], config)


STREAMS = [name for name, packing in PACKINGS.items() if packing.shard_format != "parquet"]


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("name", STREAMS)
def test_what_was_readable_before_a_file_ends_too_early_is_kept(tmp_path, read, sound, name, share):
    contents, texts = sound
    packing = PACKINGS[name]
    path = tmp_path / packing.file_name
    path.write_bytes(contents[name])
    whole = read(path, packing.shard_format).documents
    assert len(whole) == len(texts)
    path.write_bytes(contents[name][: int(share * len(contents[name]))])
    cut = read(path, packing.shard_format)
    assert cut.documents == whole[: len(cut.documents)]
    if name != "jsonl_zst":  # its only frame is read in blocks of 128 KiB
        assert len(cut.documents) > share * len(whole) / 4
    # A record of an archive that is torn by the end of a gzip stream is a row beside it.
    assert 1 <= len(cut.quarantine) <= 2
    last = cut.quarantine[-1]
    if path.suffix in {".gz", ".zst"}:
        assert (last["record"], last["reason"]) == (None, "corrupt_stream")
        # The zstd shard is one frame, of which nothing is read before its first block is whole.
        assert last["byte_offset"] > 0 or name == "jsonl_zst"
    else:
        assert last["record"] == len(cut.documents)
    check_quarantine(cut)


@pytest.mark.parametrize("name", ["parquet", "parquet_plain", "parquet_pages_2"])
def test_row_groups_before_and_after_a_damaged_page_are_kept(tmp_path, read, sound, name):
    contents, texts = sound
    path = tmp_path / "a.parquet"
    path.write_bytes(contents[name])
    group = pq.read_metadata(path).row_group(2)
    column = group.column(group.num_columns - 1)
    begin = column.dictionary_page_offset or column.data_page_offset
    damaged = bytearray(contents[name])
    damaged[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(damaged)
    shard = read(path, "parquet", unit_documents=7)
    lost = [row["record"] for row in shard.quarantine]
    assert lost == list(range(20, 30))
    assert [row["doc_id"] for row in shard.documents] == [
        doc_id_of(key) for key in texts if int(key) not in lost
    ]
    first_byte = min(group.column(i).data_page_offset for i in range(group.num_columns))
    assert {row["byte_offset"] for row in shard.quarantine} == {first_byte}
    check_quarantine(shard)


def test_a_page_of_html_in_place_of_a_shard_is_shown(tmp_path, read):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"<html>\n<title>503 Slow Down</title>" + b" " * 5_000)
    [row] = read(path, "parquet").quarantine
    assert row["raw"].startswith(r"<html>\n<title>503 Slow Down</title>")


def test_a_footer_with_damaged_column_names_is_an_unreadable_file(tmp_path, read, sound):
    contents, _ = sound
    path = tmp_path / "a.parquet"
    head, name, footer = contents["parquet_plain"].rpartition(b"PAR1")[0].partition(b"\x06doc_id")
    assert name
    path.write_bytes(head + b"\x06d\xffc_id" + footer + b"PAR1")
    assert [row["reason"] for row in read(path, "parquet").quarantine] == ["unreadable_file"]


def test_any_number_of_keys_makes_a_short_detail(tmp_path, read):
    path = tmp_path / "a.jsonl"
    path.write_text("{" + ",".join(f'"key{i}\\ud800": 1' for i in range(10_000)) + "}\n")
    shard = read(path, "jsonl")
    assert [row["reason"] for row in shard.quarantine] == ["missing_text"]
    check_quarantine(shard)


def test_record_types_of_a_damaged_archive_make_no_counters(tmp_path, read):
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(warc_record(f"kind{i}", b"x") for i in range(50)))
    assert read(path, "warc").skipped == {"unknown_type": 50}


@pytest.mark.external
def test_archives_of_others_are_read_or_quarantined(linkner_data, read):
    kinds = (".wet", ".warc", ".arc")
    files = [path for path in (linkner_data / "web").rglob("*") if path.is_file()]
    documents = 0
    for path in sorted(path for path in files if any(kind in path.name for kind in kinds)):
        shard = read(path, "wet" if ".wet" in path.name else "warc", unit_documents=3)
        check_quarantine(shard)
        assert shard.documents or shard.quarantine or shard.skipped, path
        documents += len(shard.documents)
    assert documents > 50
