import pytest

from tests.readers.conftest import gzip_members, http_response, warc_record

INFO = warc_record("warcinfo", b"software: x\r\n")


def page(number, text=None):
    block = (text or f"Page {number}\nsecond line").encode()
    return warc_record(
        "conversion",
        block,
        identifier=f"urn:uuid:{number}",
        WARC_Target_URI=f"http://example.org/{number}",
        WARC_Identified_Content_Language="deu,eng",
    )


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packing", ["plain", "one member", "member per record"])
def test_a_conversion_record_is_a_document(tmp_path, read, packing):
    records = [INFO, page(1), page(2)]
    content = {
        "plain": b"".join(records),
        "one member": gzip_members(b"".join(records)),
        "member per record": gzip_members(*records) + b"\0" * 512,
    }
    shard = read(write(tmp_path / "a.wet", content[packing]), "wet")
    assert shard.documents[1] == {
        "doc_id": "urn:uuid:2",
        "url": "http://example.org/2",
        "lang": "deu",
        "text": "Page 2\nsecond line",
    }
    assert [unit.num_records for unit in shard.units] == [3]
    assert shard.skipped == {"warcinfo": 1}


def test_pages_in_other_languages_are_skipped_by_what_their_header_says(tmp_path, read):
    path = write(tmp_path / "a.wet", INFO + page(1) + page(2).replace(b"deu,eng", b"eng"))
    shard = read(path, "wet", languages=["en"])
    assert [document["doc_id"] for document in shard.documents] == ["urn:uuid:2"]
    assert shard.skipped == {"warcinfo": 1, "language_de": 1}


def test_a_record_without_id_is_named_by_its_place(tmp_path, read):
    record = page(1).replace(b"WARC-Record-ID: <urn:uuid:1>\r\n", b"")
    path = write(tmp_path / "a.wet", INFO + record)
    assert [d["doc_id"] for d in read(path, "wet").documents] == [f"{path}:1"]


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_a_folded_header_line_goes_on_with_a_value(tmp_path, read, blank):
    folded = b"\r\nSubject: a\r\n" + blank + b"Content-Length: 3\r\n"
    record = page(1, "Ada Lovelace").replace(b"\r\n", folded, 1)
    shard = read(write(tmp_path / "a.wet", record + page(2, "Ben")), "wet")
    assert shard.texts == ["Ada Lovelace", "Ben"]
    assert shard.reasons == []


def test_invalid_utf8_in_a_page_is_quarantined(tmp_path, read):
    bad = warc_record("conversion", b"caf\xe9")
    shard = read(write(tmp_path / "a.wet", bad + page(2)), "wet")
    assert shard.reasons == [(0, "invalid_utf8")]
    assert [d["doc_id"] for d in shard.documents] == ["urn:uuid:2"]


def test_a_torn_record_is_quarantined_and_those_before_it_are_kept(tmp_path, read):
    content = page(1) + page(2)
    shard = read(write(tmp_path / "a.wet", content[:-10]), "wet")  # 4 of them end the record
    assert len(shard.documents) == 1
    assert shard.reasons == [(1, "truncated_record")]
    assert shard.quarantine[0]["byte_offset"] == len(page(1))
    assert shard.quarantine[0]["detail"] == "the record has 12 of 18 bytes"


def test_what_a_short_content_length_leaves_over_is_quarantined(tmp_path, read):
    short = warc_record("conversion", b"kept\nlost\n", length=5)
    shard = read(write(tmp_path / "a.wet", short + page(2)), "wet")
    assert shard.texts == ["kept\n", "Page 2\nsecond line"]
    assert shard.reasons == [(1, "malformed_record")]
    # "lost\n" and the CRLF CRLF that ends a record
    assert shard.quarantine[0]["detail"] == "9 bytes where a record should begin"


@pytest.mark.parametrize("length", [b"", b"Content-Length: -1\r\n", b"Content-Length: x\r\n"])
def test_a_record_without_length_is_quarantined_with_its_block(tmp_path, read, length):
    header = b"WARC/1.0\r\nWARC-Type: conversion\r\n" + length + b"\r\n"
    shard = read(write(tmp_path / "a.wet", header + b"text\r\n\r\n" + page(2)), "wet")
    assert shard.reasons == [(0, "malformed_record"), (1, "malformed_record")]
    assert len(shard.documents) == 1


def test_an_arc_file_says_how_to_convert_it(tmp_path, read):
    shard = read(write(tmp_path / "a.arc", b"filedesc://a.arc 0.0.0.0 2024 text/plain 0\n"), "warc")
    assert shard.reasons == [(None, "unsupported_arc")]
    assert "warcio recompress" in shard.quarantine[0]["detail"]


def test_a_record_that_claims_too_much_is_not_held(tmp_path, read):
    big = warc_record("conversion", b"x" * 1_100_000)
    shard = read(write(tmp_path / "a.wet", big + page(2)), "wet", max_document_chars=100)
    assert shard.reasons == [(0, "too_long")]
    assert len(shard.documents) == 1


def test_html_responses_are_read_and_others_counted(tmp_path, read):
    html = b"<html><title>T</title><body><h1>Head</h1><p>One<br>two</p></body></html>"
    records = [
        warc_record("request", b"GET / HTTP/1.1\r\n\r\n"),
        warc_record("response", http_response(html), Content_Type="application/http"),
        warc_record(
            "response", http_response(b"\x89PNG", "image/png"), Content_Type="application/http"
        ),
        warc_record("metadata", b"a: b"),
    ]
    shard = read(write(tmp_path / "a.warc.gz", gzip_members(*records)), "warc")
    assert [text.split() for text in shard.texts] == [["Head", "One", "two"]]
    assert len(shard.texts[0].splitlines()) >= 3
    assert shard.skipped == {"request": 1, "response_not_html": 1, "metadata": 1}
