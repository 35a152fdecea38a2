"""The text of one archive record: HTTP undone, characters decoded, HTML turned into lines."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from fastwarc.warc import HeaderMap, WarcRecord, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text

from linkner_ray.readers.decode import decode_page
from linkner_ray.readers.http_codings import undo_codings
from linkner_ray.readers.markup import find_excess

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_PLAIN = "text/plain"
_CHARSET = re.compile(r"charset\s*+=\s*+[\"']?+\s*+([^\s\"';,]+)", re.IGNORECASE)

_MAX_CODINGS_BYTES = 1_000

_OF_PARSERS = (OSError, LookupError, RuntimeError, TypeError, ValueError)
"""What the parsers of records, HTTP and HTML may raise about bytes they cannot read; a page must
not decide whether a run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordText:
    """A document found in a record; text as bytes is meant to be UTF-8."""

    doc_id: str | None
    url: str | None
    lang: str | None
    text: str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NoText:
    """Why a record gives no document.

    Attributes:
        reason: A short word to count by.
        detail: What was found.
        is_fault: Whether the record is bad, not merely of another kind.
    """

    reason: str
    detail: str = ""
    is_fault: bool = False


def read_payload(header: bytes, block: bytes, *, max_bytes: int) -> RecordText | NoText:
    """Text of a conversion, response or resource record, given as header and block.

    A payload that decodes to more than `max_bytes` is a fault.
    """
    try:
        record = WarcRecord.from_bytes(header + block + b"\r\n\r\n")
        text = _text(record, block, max_bytes)
        if isinstance(text, NoText):
            return text
        languages = _header(record, "WARC-Identified-Content-Language") or ""
        return RecordText(
            doc_id=(_header(record, "WARC-Record-ID") or "").strip("<> ") or None,
            url=(_header(record, "WARC-Target-URI") or "").strip("<> ") or None,
            lang=languages.split(",")[0].strip() or None,
            text=text,
        )
    except _OF_PARSERS as error:
        detail = f"{type(error).__name__}: {error}"
        return NoText(reason="malformed_record", detail=detail, is_fault=True)


def _header(record: WarcRecord, name: str) -> str | None:
    value = record.headers.get_bytes(name.encode())
    return None if value is None else value.decode(errors="replace")


def _text(record: WarcRecord, block: bytes, max_bytes: int) -> str | bytes | NoText:
    if record.record_type == WarcRecordType.conversion:
        return block
    if record.record_type == WarcRecordType.resource:
        content = _content_type(record.headers)
        if content.media_type in _HTML:
            return _html_to_lines(block, content.charset)
        if content.media_type == _PLAIN:
            return decode_page(block, content.charset, is_html=False)
        return NoText(reason="resource_not_text")
    return _response_text(record, max_bytes)


class _ContentType(NamedTuple):
    media_type: str
    charset: str | None


def _content_type(headers: HeaderMap) -> _ContentType:
    value = (headers.get_bytes(b"Content-Type") or b"").decode("latin-1")
    media_type, _, parameters = value.partition(";")
    charset = _CHARSET.search(parameters)
    return _ContentType(media_type.strip().lower(), charset[1] if charset else None)


def _response_text(record: WarcRecord, max_bytes: int) -> str | NoText:
    try:
        # Some archives end HTTP header lines with LF alone; without quirks mode their pages lose
        # everything before the first blank CRLF line.
        record.parse_http(auto_decode="none", quirks_mode=True)
    except _OF_PARSERS as error:
        return NoText(reason="malformed_http", detail=str(error), is_fault=True)
    if not record.is_http_parsed:
        return NoText(reason="response_not_http")
    content = _content_type(record.http_headers)
    if content.media_type not in _HTML:
        return NoText(reason="response_not_html")
    codings = _codings(record.http_headers)
    page = undo_codings(record.reader.read(), codings, max_bytes=max_bytes)
    if len(page) > max_bytes:
        detail = f"the page has over {max_bytes} bytes; see input.max_document_chars"
        return NoText(reason="too_long", detail=detail, is_fault=True)
    return _html_to_lines(page, content.charset)


def _codings(headers: HeaderMap) -> list[str]:
    """Codings by name, the one that was applied last first: transfer before content."""
    codings: list[str] = []
    for name in (b"Transfer-Encoding", b"Content-Encoding"):
        value = b",".join(headers.get_bytes_multiple(name))[:_MAX_CODINGS_BYTES]
        codings += reversed(value.decode("latin-1").split(","))
    return codings


def _html_to_lines(page: bytes, charset: str | None) -> str | NoText:
    html = decode_page(page, charset, is_html=True)
    excess = find_excess(html)
    if excess:
        return NoText(reason="excessive_markup", detail=excess, is_fault=True)
    return extract_plain_text(html, preserve_formatting=True)
