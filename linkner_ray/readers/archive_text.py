"""The text of one archive record: HTTP undone, characters decoded, HTML turned into lines."""

import codecs
from dataclasses import dataclass

from fastwarc.warc import WarcRecord, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_PLAIN = "text/plain"
_UTF_8 = "utf-8"


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
    """Text of a conversion, response or resource record.

    Args:
        header: Header of the record with its blank line.
        block: What follows, Content-Length bytes.
        max_bytes: Payloads that decode to more are a fault.
    """
    try:
        record = WarcRecord.from_bytes(header + block + b"\r\n\r\n")
    except OSError as error:
        return NoText(reason="malformed_record", detail=str(error), is_fault=True)
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


def _header(record: WarcRecord, name: str) -> str | None:
    value = record.headers.get_bytes(name.encode())
    return None if value is None else value.decode(errors="replace")


def _text(record: WarcRecord, block: bytes, max_bytes: int) -> str | bytes | NoText:
    if record.record_type == WarcRecordType.conversion:
        return block
    if record.record_type == WarcRecordType.resource:
        content_type = _media_type(_header(record, "Content-Type"))
        if content_type in _HTML:
            return _html_to_lines(block, None)
        if content_type == _PLAIN:
            return bytes_to_str(block, detect_encoding(block) or _UTF_8)
        return NoText(reason="resource_not_text")
    return _response_text(record, max_bytes)


def _media_type(content_type: str | None) -> str:
    return (content_type or "").split(";")[0].strip().lower()


def _response_text(record: WarcRecord, max_bytes: int) -> str | NoText:
    try:
        # Some archives end HTTP header lines with LF alone; without quirks mode their pages lose
        # everything before the first blank CRLF line.
        record.parse_http(auto_decode="none", quirks_mode=True)
    except OSError as error:
        return NoText(reason="malformed_http", detail=str(error), is_fault=True)
    if not record.is_http_parsed:
        return NoText(reason="response_not_http")
    if _media_type(record.http_content_type) not in _HTML:
        return NoText(reason="response_not_html")
    page = _undo_codings(record, record.reader.read(), max_bytes)
    if len(page) > max_bytes:
        detail = f"the page has over {max_bytes} bytes; see input.max_document_chars"
        return NoText(reason="too_long", detail=detail, is_fault=True)
    return _html_to_lines(page, record.http_charset)


def _undo_codings(record: WarcRecord, stored: bytes, max_bytes: int) -> bytes:
    """Payload with transfer and content coding undone, read up to one byte over the limit.

    Crawlers often undo a coding and keep its header, so a payload that cannot be decoded is taken
    as it is.
    """
    headers = record.http_headers
    if not (headers.get("Transfer-Encoding") or headers.get("Content-Encoding")):
        return stored
    head = b"".join(
        b"%b: %b\r\n" % (name, headers.get_bytes(name) or b"")
        for name in (b"Transfer-Encoding", b"Content-Encoding")
        if headers.get_bytes(name)
    )
    message = b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + stored
    coded = WarcRecord()
    coded.record_type = WarcRecordType.response
    coded.is_http = True
    coded.set_bytes_content(message)
    try:
        coded.parse_http(auto_decode="all")
        return coded.reader.read(max_bytes + 1)
    except OSError:
        return stored


def _html_to_lines(page: bytes, charset: str | None) -> str:
    encoding = charset if charset and _is_known(charset) else None
    encoding = encoding or detect_encoding(page, from_html_meta=True) or _UTF_8
    return extract_plain_text(bytes_to_str(page, encoding), preserve_formatting=True)


def _is_known(charset: str) -> bool:
    try:
        codecs.lookup(charset)
    except LookupError:
        return False
    return True
