import gzip
import json

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from linkner_ray.config import InputConfig
from linkner_ray.readers import read_units
from linkner_ray.runs.units import Source


def lines(count):
    return [json.dumps({"doc_id": f"d{i}", "text": f"text {i}"}) for i in range(count)]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_line_is_a_document(tmp_path, read, suffix):
    content = "\n".join(lines(3)).encode()  # without a line end after the last
    packed = {
        "": content,
        ".gz": gzip.compress(content[:30]) + gzip.compress(content[30:]),
        ".zst": zstandard.compress(content[:30]) + zstandard.compress(content[30:]),
    }
    shard = read(write(tmp_path / f"a.jsonl{suffix}", packed[suffix]), "jsonl")
    assert [d["doc_id"] for d in shard.documents] == ["d0", "d1", "d2"]


def test_bad_lines_are_quarantined_with_their_place(tmp_path, read):
    bad = ["{", "[1]", "", '{"a": 1}', '{"text": null}', '{"text": 5}', '{"text": "a\\ud800b"}']
    path = write(tmp_path / "a.jsonl", "\n".join(['{"text": "ok"}', *bad, '{"text": "a\\u0000"}']))
    shard = read(path, "jsonl")
    assert shard.texts == ["ok", "a\0"]
    assert [d["doc_id"] for d in shard.documents] == [f"{path}:0", f"{path}:8"]
    assert shard.reasons == [
        (1, "bad_json"),
        (2, "not_an_object"),
        (4, "missing_text"),
        (5, "null_text"),
        (6, "wrong_type"),
        (7, "invalid_unicode"),
    ]
    # Lengths with line ends: 15, 2, 4, 1, 9, 15, 12
    assert [row["byte_offset"] for row in shard.quarantine] == [15, 17, 22, 31, 46, 58]
    assert shard.skipped == {"blank_line": 1}
    assert shard.quarantine[-1]["raw"] == "a\\ud800b"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "12345"}', "too_long"),
        (b'{"text": "\xff"}', "invalid_utf8"),
        (b"[" * 100_000, "bad_json"),
        (b'{"n": ' + b"1" * 5000 + b"}", "missing_text"),
    ],
    ids=["long", "invalid", "deep", "large number"],
)
def test_hostile_lines_stop_nothing(tmp_path, read, line, reason):
    content = b"\xef\xbb\xbf" + line + b'\n{"text": "ok"}\n'  # a byte order mark is no text
    shard = read(write(tmp_path / "a.jsonl", content), "jsonl", max_document_chars=4)
    assert shard.reasons == [(0, reason)]
    assert shard.texts == ["ok"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ('"doc_id": NaN, "url": NaN, "lang": -Infinity', ("PATH:0", None, None)),
        ('"doc_id": "", "url": null', ("PATH:0", None, None)),
        ('"doc_id": 1e999, "url": 5', ("PATH:0", "5", None)),
        pytest.param(f'"doc_id": {"9" * 5_000}', ("PATH:0", None, None), id="long integer"),
        ('"doc_id": " \\t", "url": null', ("PATH:0", None, None)),
        ('"doc_id": 17, "lang": "de"', ("17", None, "de")),
        ('"doc_id": 2.0, "other": {"doc_id": 1, "doc_id": 2}', ("2.0", None, None)),
        ('"doc_id": true', "'doc_id' is bool, expected a string or a number; set input.id_column"),
        ('"lang": ["de"]', "'lang' is list, expected a string or a number; set input.lang_column"),
        ('"doc_id": "a", "other": 1, "doc_id": "c"', "key 'doc_id' is given twice"),
        ('"text": "second"', "key 'text' is given twice"),
    ],
)
def test_values_that_are_no_plain_strings(tmp_path, read, fields, expected):
    path = write(tmp_path / "a.jsonl", '{"text": "Ada", ' + fields + "}\n")
    shard = read(path, "jsonl")
    if isinstance(expected, str):
        assert [row["detail"] for row in shard.quarantine] == [expected]
        return
    [row] = shard.documents
    assert (row["doc_id"].replace(str(path), "PATH"), row["url"], row["lang"]) == expected


def test_what_is_not_in_a_line_may_be_in_the_name_of_its_folder(tmp_path, read):
    folder = tmp_path / "lang=pt%2DBR" / "doc_id=7"
    folder.mkdir(parents=True)
    path = write(folder / "a.jsonl", '{"text": "a"}\n{"text": "b", "lang": null}\n')
    found = read(path, "jsonl").documents
    assert [(row["lang"], row["doc_id"]) for row in found] == [
        ("pt-BR", f"{path}:0"),
        (None, f"{path}:1"),
    ]


def test_an_enormous_line_is_passed_over(tmp_path, read):
    path = write(tmp_path / "a.jsonl", '{"text": "' + "x" * 4_000_000 + '"}\n{"text": "ok"}\n')
    shard = read(path, "jsonl", max_document_chars=10)
    assert shard.reasons == [(0, "too_long")]
    assert shard.texts == ["ok"]


def test_a_name_that_promises_gzip_must_hold_it(tmp_path, read):
    shard = read(write(tmp_path / "a.jsonl.gz", '{"text": "a"}'), "jsonl")
    assert shard.reasons == [(None, "corrupt_stream")]


@settings(max_examples=30)
@given(
    num_lines=st.integers(0, 12),
    unit_documents=st.integers(1, 5),
    unit_chars=st.sampled_from([1, 60, 10_000]),
    blank=st.sets(st.integers(0, 11)),
    done=st.sets(st.integers(0, 11)),
)
def test_what_is_done_moves_no_boundary(
    tmp_path_factory, num_lines, unit_documents, unit_chars, blank, done
):
    content = [" " if i in blank else line for i, line in enumerate(lines(num_lines))]
    path = write(tmp_path_factory.mktemp("j") / "a.jsonl", "\n".join(content))
    source = Source(path=str(path), format="jsonl", size=0, version="1")
    config = InputConfig(paths=("x",), unit_documents=unit_documents, unit_chars=unit_chars)

    def units(done):
        return list(read_units(source, config=config, errors_raw_chars=9, done=done))

    whole = units({})
    firsts = [unit.first_record for unit in whole]
    ends = [unit.first_record + unit.num_records for unit in whole]
    assert firsts == [0, *ends[:-1]]
    assert [unit.is_last for unit in whole] == [False] * (len(whole) - 1) + [True]
    assert units(dict.fromkeys(done, 1)) == [u for u in whole if u.first_record not in done]
