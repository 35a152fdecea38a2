"""WARC and WET: records of a web archive.

Records are framed here and parsed by FastWARC. Framing apart means that a wrong Content-Length, a
damaged header or a torn end is seen and accounted for, where a lenient parser passes over it.
"""

import functools
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from linkner_ray.config import InputConfig
from linkner_ray.readers.archive_text import RecordText, read_payload
from linkner_ray.readers.compression import ShardStream
from linkner_ray.readers.other_format import HEAD_BYTES, find_other_format
from linkner_ray.readers.streams import (
    StreamRecord,
    UnitCollector,
    bad_record,
    broken_end,
    whole_stream,
)

_BUFFER_BYTES = 1 << 20
_MAX_LINE_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 20
_MAX_BYTES_PER_CHAR = 4
_DOCUMENT_TYPES = frozenset({"conversion", "response", "resource"})
_OTHER_TYPES = frozenset({"warcinfo", "request", "metadata", "revisit", "continuation"})
_VERSION_LINE = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")


@dataclass(slots=True, kw_only=True)
class _Frame:
    """A record whose header has been read and whose block comes next in the stream."""

    byte_offset: int
    header: bytes
    content_length: int
    record_type: str
    remaining: int

    def read(self, reader: BinaryIO) -> bytes:
        block = reader.read(self.remaining)
        self.remaining -= len(block)
        return block


def read_warc(stream: ShardStream, config: InputConfig) -> Iterator[StreamRecord]:
    """Records of a shard; a stretch that is no record is one of its own, to be quarantined."""
    reader = io.BufferedReader(stream, _BUFFER_BYTES)
    head = reader.peek()[:HEAD_BYTES]
    if other := find_other_format(head, "warc"):
        yield whole_stream(other, head)
        return
    offset = 0
    line = reader.readline(_MAX_LINE_BYTES)
    while line:
        if not line.strip():
            offset += len(line)
            line = reader.readline(_MAX_LINE_BYTES)
            continue
        if not _VERSION_LINE.fullmatch(line):
            num_bytes, next_line = _pass_to_version_line(reader)
            yield _stretch(offset, line, len(line) + num_bytes)
            offset += len(line) + num_bytes
            line = next_line
            continue
        header = line + _read_header(reader)
        frame = _frame(header, offset)
        offset += len(header)
        if frame is None:
            yield bad_record(
                reason="malformed_record",
                detail="the record header does not end, or has no Content-Length",
                byte_offset=offset - len(header),
                num_bytes=len(header),
                raw=header,
            )
            line = reader.readline(_MAX_LINE_BYTES)
            continue
        yield StreamRecord(
            num_bytes=frame.content_length,
            may_be_document=frame.record_type in _DOCUMENT_TYPES,
            collect=functools.partial(_collect, frame=frame, reader=reader, config=config),
        )
        _pass_over(frame, reader)
        offset += frame.content_length - frame.remaining
        line = reader.readline(_MAX_LINE_BYTES)
    if stream.failure:
        yield broken_end(stream.failure, offset)


def _read_header(reader: BinaryIO) -> bytes:
    """Header lines up to and including the blank one, or up to the end of the stream."""
    header = bytearray()
    while len(header) < _MAX_HEADER_BYTES:
        line = reader.readline(_MAX_LINE_BYTES)
        header += line
        if not line.strip():
            break
    return bytes(header)


def _frame(header: bytes, byte_offset: int) -> _Frame | None:
    """What a header says of its record; None if it does not end or has no usable length."""
    fields: dict[bytes, bytes] = {}
    for line in header.split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon and not line.startswith((b" ", b"\t")):  # else it goes on with a value
            fields.setdefault(name.strip().lower(), value.strip())
    length = fields.get(b"content-length", b"")
    complete = header.endswith((b"\n\r\n", b"\n\n"))
    if not complete or not length.isdigit() or len(length) > 18:
        return None
    return _Frame(
        byte_offset=byte_offset,
        header=header,
        content_length=int(length),
        record_type=fields.get(b"warc-type", b"").decode("ascii", "backslashreplace").lower(),
        remaining=int(length),
    )


def _pass_over(frame: _Frame, reader: BinaryIO) -> None:
    while frame.remaining:
        block = reader.read(min(frame.remaining, _BUFFER_BYTES))
        if not block:
            break
        frame.remaining -= len(block)


def _pass_to_version_line(reader: BinaryIO) -> tuple[int, bytes]:
    """Bytes up to the next version line, and that line; empty if there is none."""
    num_bytes = 0
    while (line := reader.readline(_MAX_LINE_BYTES)) and not _VERSION_LINE.fullmatch(line):
        num_bytes += len(line)
    return num_bytes, line


def _stretch(byte_offset: int, line: bytes, num_bytes: int) -> StreamRecord:
    if byte_offset == 0 and line.startswith(b"filedesc:"):
        return bad_record(
            reason="unsupported_arc",
            detail="ARC file; convert it to WARC, for instance with `warcio recompress`",
            byte_offset=0,
            num_bytes=num_bytes,
            raw=line,
            of_file=True,
        )
    return bad_record(
        reason="malformed_record",
        detail=f"{num_bytes} bytes where a record should begin",
        byte_offset=byte_offset,
        num_bytes=num_bytes,
        raw=line,
    )


def _collect(unit: UnitCollector, *, frame: _Frame, reader: BinaryIO, config: InputConfig) -> None:
    """Add the document of a record, or say why it is none."""
    if frame.record_type not in _DOCUMENT_TYPES:
        # A run has a counter for each reason, so a damaged archive must not name them.
        known = frame.record_type in _OTHER_TYPES
        unit.skip(
            frame.record_type if known else "unknown_type" if frame.record_type else "no_type"
        )
        return
    max_bytes = _MAX_BYTES_PER_CHAR * config.max_document_chars
    if frame.content_length > max_bytes + _MAX_HEADER_BYTES:
        detail = f"{frame.content_length} bytes; see input.max_document_chars"
        unit.quarantine(
            reason="too_long", detail=detail, byte_offset=frame.byte_offset, raw=frame.header
        )
        return
    block = frame.read(reader)
    if len(block) < frame.content_length:
        detail = f"the record has {len(block)} of {frame.content_length} bytes"
        unit.quarantine(
            reason="truncated_record",
            detail=detail,
            byte_offset=frame.byte_offset,
            raw=block,
            num_chars=len(block.decode(errors="replace")),
        )
        return
    payload = read_payload(frame.header, block, max_bytes=max_bytes)
    if isinstance(payload, RecordText):
        unit.add_document(
            doc_id=payload.doc_id,
            url=payload.url,
            lang=payload.lang,
            text=payload.text,
            byte_offset=frame.byte_offset,
        )
    elif payload.is_fault:
        unit.quarantine(
            reason=payload.reason, detail=payload.detail, byte_offset=frame.byte_offset, raw=block
        )
    else:
        unit.skip(payload.reason)
