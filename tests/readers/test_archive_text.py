import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.readers.archive_text import NoText, RecordText, read_payload
from tests.readers.conftest import http_response, warc_record


def payload(kind, block, *, max_bytes=10_000, **headers):
    record = warc_record(kind, block, **headers)
    header = record[: record.index(b"\r\n\r\n") + 4]
    return read_payload(header, block, max_bytes=max_bytes)


def response(*args, max_bytes=10_000, **options):
    block = http_response(*args, **options)
    return payload("response", block, max_bytes=max_bytes, Content_Type="application/http")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<p>M\u00fcnchen".encode("latin-1"), "text/html; charset=iso-8859-1"),
        ("<p>M\u00fcnchen".encode("latin-1"), "Text/HTML;a=b; CharSet = 'iso-8859-1'"),
        ("<meta charset=iso-8859-1><p>M\u00fcnchen".encode("latin-1"), "text/html"),
        ("<p>M\u00fcnchen".encode(), "text/html; charset=base64"),
        ("<p>M\u00fcnchen".encode(), "text/html; charset=ut\0f-8"),
        ("<p>M\u00fcnchen".encode(), "application/xhtml+xml"),
    ],
)
def test_the_encoding_goes_by_header_then_page(body, content_type):
    found = response(body, content_type)
    assert isinstance(found, RecordText)
    assert found.text.strip() == "M\u00fcnchen"


def test_header_lines_that_end_in_lf_alone_lose_no_page():
    body = b"<p>first</p>\r\n\r\n<p>second</p>"
    found = response(body, "text/html", line_end=b"\n")
    assert found.text.split() == ["first", "second"]


def test_codings_are_undone_in_the_order_of_their_headers():
    coded = gzip.compress(zlib.compress(b"<p>page</p>"), mtime=0)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(coded), coded)
    headers = (
        b"Content-Encoding: deflate",
        b"content-encoding: gzip",
        b"Transfer-Encoding: chunked",
    )
    assert response(body, "text/html", *headers).text.split() == ["page"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("content_type", "header"),
    [
        ("text/html; charset=" + " " * 20_000, b"A: b"),
        ("text/html; " + "charset " * 2_000, b"A: b"),
        ("text/html", b"Content-Encoding: " + b"gzip," * 4_000),
        ("text/html", b"Transfer-Encoding: chunked\r\nContent-Encoding: " + b"," * 20_000),
    ],
)
def test_long_headers_take_no_time(content_type, header):
    found = response(b"<p>page</p>", content_type, header, max_bytes=10**7)
    assert found.text.split() == ["page"]


def test_a_page_of_hostile_markup_is_a_fault():
    found = response(b"<ul><li>x" * 5_000, max_bytes=10**6)
    assert (found.reason, found.is_fault) == ("excessive_markup", True)


@given(
    content_type=st.binary(max_size=30), coding=st.binary(max_size=20), body=st.binary(max_size=60)
)
def test_no_header_or_body_raises(content_type, coding, body):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=" + content_type
    block = head + b"\r\nContent-Encoding: " + coding + b"\r\n\r\n<p>" + body
    for kind in ("response", "resource", "conversion"):
        payload(kind, block, Content_Type="application/http")


def test_a_page_that_unpacks_to_too_much_is_a_fault():
    body = gzip.compress(b"<p>" + b"x" * 100_000, mtime=0)
    found = response(body, "text/html", b"Content-Encoding: gzip")
    assert isinstance(found, NoText)
    assert (found.reason, found.is_fault) == ("too_long", True)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [("text/html", "a b"), ("text/plain; charset=utf-8", "<p>a  b"), ("image/png", None)],
)
def test_a_resource_is_read_by_its_type(content_type, expected):
    found = payload("resource", b"<p>a  b", Content_Type=content_type)
    if expected is None:
        assert found == NoText(reason="resource_not_text")
    else:
        assert found.text.strip() == expected


def test_a_response_of_another_protocol_is_skipped():
    found = payload("response", b"20240101\nexample.org", Content_Type="text/dns")
    assert found == NoText(reason="response_not_http")


def test_a_url_with_brackets_or_bad_bytes_stays_readable():
    found = payload("conversion", b"x", WARC_Target_URI="<http://example.org/a b>")
    assert found.url == "http://example.org/a b"
