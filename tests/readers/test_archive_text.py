import gzip

import pytest

from linkner_ray.readers.archive_text import NoText, RecordText, read_payload
from tests.readers.conftest import http_response, warc_record


def payload(kind, block, *, max_bytes=10_000, **headers):
    record = warc_record(kind, block, **headers)
    header = record[: record.index(b"\r\n\r\n") + 4]
    return read_payload(header, block, max_bytes=max_bytes)


def response(*args, **options):
    return payload("response", http_response(*args, **options), Content_Type="application/http")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("<p>M\u00fcnchen".encode(), "text/html; charset=utf-8"),
        ("<p>M\u00fcnchen".encode("latin-1"), "text/html; charset=iso-8859-1"),
        ("<meta charset=iso-8859-1><p>M\u00fcnchen".encode("latin-1"), "text/html"),
        ("<p>M\u00fcnchen".encode(), "text/html; charset=no-such-name"),
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


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (gzip.compress(b"<p>page</p>", mtime=0), b"Content-Encoding: gzip"),
        (b"<p>page</p>", b"Content-Encoding: gzip"),  # undone by the crawler, header kept
        (b"b\r\n<p>page</p>\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
        (b"<p>page</p>", b"Transfer-Encoding: chunked"),
    ],
)
def test_codings_are_undone_where_they_are_there(body, header):
    assert response(body, "text/html", header).text.split() == ["page"]


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
