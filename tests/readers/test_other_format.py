"""A shard of another format than its name says: named, whole in quarantine, and what to do."""

import gzip
import io
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkner_ray.config import InputConfig
from linkner_ray.errors import ConfigError
from linkner_ray.readers import check_sources, list_sources
from tests.readers.conftest import gzip_members, warc_record

ROWS = [{"doc_id": f"d{number}", "text": f"text {number}"} for number in range(3)]
GLINER = [{"tokenized_text": ["Ada", "slept"], "ner": [[0, 0, "person"]]}] * 2


def parquet():
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file)
    return file.getvalue()


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


JSONL, WARC = lines(ROWS), warc_record("conversion", b"text")
ARRAY = "is a JSON array; write one object a line: jq -c '.[]' OLD > NEW.jsonl"
AS_JSONL = "let its name end in .jsonl or .jsonl.gz, or set input.format=jsonl"
PACKED = "is neither gzip nor zstd, though named so; "


@pytest.mark.parametrize(
    ("name", "content", "detail"),
    [
        ("a.jsonl", json.dumps(ROWS, indent=2).encode(), ARRAY),
        ("a.json", b"\xef\xbb\xbf" + json.dumps(ROWS).encode(), ARRAY),
        ("a.json.gz", gzip.compress(json.dumps(ROWS, indent=2).encode()), ARRAY),
        ("a.jsonl", b"[\n" + b",\n".join(JSONL.split()) + b"\n]\n", ARRAY),
        ("a.jsonl", b'[\n{"text": "one"}\n]\n', ARRAY),
        ("a.jsonl", json.dumps(GLINER, indent=4).encode(), ARRAY),
        ("a.json", json.dumps(ROWS[0], indent=2).encode(), "is JSON over several lines; write"),
        ("a.jsonl", parquet(), "is Parquet; let its name end in .parquet, or set input.format="),
        ("a.jsonl", WARC, "is WARC; let its name end in .warc or .warc.gz, or set input.format="),
        ("a.jsonl.gz", gzip.compress(gzip.compress(JSONL)), "is compressed twice; unpack it once"),
        ("a.jsonl", b"<!doctype html>\n<title>404</title>", "is HTML or XML, such as the error"),
        ("a.jsonl", JSONL.decode().encode("utf-16"), "is text in UTF-16; iconv -f utf-16 -t utf-8"),
        ("a.parquet", JSONL, f"is JSON Lines; {AS_JSONL}"),
        ("a.parquet", gzip.compress(JSONL), f"is JSON Lines; {AS_JSONL}"),
        ("a.parquet", b'<?xml version="1.0"?><Error>', "is HTML or XML, such as the error page"),
        ("a.warc.gz", gzip_members(JSONL), f"is JSON Lines; {AS_JSONL}"),
        ("a.wet", parquet(), "is Parquet; let its name end in .parquet"),
    ],
)
def test_a_shard_of_another_format_is_named(tmp_path, read, name, content, detail):
    path = tmp_path / name
    path.write_bytes(content)
    config = InputConfig(paths=(str(tmp_path),))
    sources = list_sources(config)
    [row] = read(path, sources[0].format).quarantine
    assert (row["record"], row["reason"]) == (None, "unreadable_file")
    assert row["detail"].startswith(detail)
    with pytest.raises(ConfigError) as error:
        check_sources(sources, config)
    assert str(error.value).startswith(f"{path}: {detail}")


def test_one_such_shard_among_others_stops_no_run(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(parquet())
    (tmp_path / "b.jsonl").write_bytes(JSONL)
    config = InputConfig(paths=(str(tmp_path),))
    check_sources(list_sources(config), config)
    (tmp_path / "c.jsonl").write_bytes(parquet())
    with pytest.raises(ConfigError, match=r"a\.jsonl: is Parquet"):
        check_sources(list_sources(config), config)


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.jsonl", gzip.compress(JSONL), ["text 0", "text 1", "text 2"]),
        ("a.jsonl", b"[{}]\n" + JSONL, ["text 0", "text 1", "text 2"]),
        ("a.jsonl", b"<html>\n{\n[{\n" + JSONL, ["text 0", "text 1", "text 2"]),
        ("a.jsonl", b'[{}]\n{"text": "long", "more": "' + b"x" * 70_000 + b'"}\n', ["long"]),
        ("a.warc", b"<html>\n" + WARC, ["text"]),
    ],
)
def test_bad_lines_in_front_cost_no_other(tmp_path, read, name, content, texts):
    path = tmp_path / name
    path.write_bytes(content)
    config = InputConfig(paths=(str(path),))
    sources = list_sources(config)
    check_sources(sources, config)
    assert read(path, sources[0].format).texts == texts


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (
            gzip.compress(WARC),
            "and it is WARC; let its name end in .warc or .warc.gz, or set input",
        ),
        (JSONL, f"and it is JSON Lines; {AS_JSONL}"),
        (b"plain", "set input.format, or name the shards with a glob such as "),
    ],
)
def test_a_name_that_tells_no_format_is_answered_with_what_the_file_is(tmp_path, content, advice):
    (tmp_path / "crawl.gz").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        list_sources(InputConfig(paths=(str(tmp_path / "crawl.gz"),)))
    assert "crawl.gz: the name does not tell the format" in str(error.value)
    assert advice in str(error.value)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (JSONL, f"{PACKED}JSON Lines; {AS_JSONL}"),
        (lzma.compress(JSONL), f"{PACKED}bzip2 or xz; pack it with gzip or zstd"),
        (b"plain", f"{PACKED}if it is plain, rename it"),
    ],
)
def test_what_is_not_compressed_as_named_is_told(tmp_path, read, content, detail):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    [row] = read(path, "jsonl").quarantine
    assert row["detail"].startswith(detail)


@pytest.mark.parametrize(
    ("row", "settings", "reason", "detail"),
    [
        (GLINER[0], {}, "missing_text", "no key 'text', found ['tokenized_text', 'ner']; "
         "'tokenized_text' is a list of words: join them with blanks into a text"),
        (GLINER[0], {"text_column": "tokenized_text"}, "wrong_type",
         "'tokenized_text' is list, expected a string; 'tokenized_text' is a list of words: "
         "join them with blanks into a text"),
        ({"body": "a", "tags": []}, {}, "missing_text",
         "no key 'text', found ['body', 'tags']; set input.text_column"),
    ],
)  # fmt: skip
def test_a_labelled_corpus_as_a_shard_is_told_what_to_do(
    tmp_path, read, row, settings, reason, detail
):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([row]))
    [found] = read(path, "jsonl", **settings).quarantine
    assert (found["reason"], found["detail"]) == (reason, detail)


def test_doccano_lines_are_documents(tmp_path, read):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines([{"id": 1, "text": "Ada slept", "label": [[0, 3, "PER"]]}]))
    assert read(path, "jsonl").texts == ["Ada slept"]
