"""JSON Lines: a line is a document."""

import functools
import io
import json
from collections.abc import Iterator

from linkner_ray.config import InputConfig
from linkner_ray.readers.streams import ShardStream, StreamRecord, UnitCollector

_PASS_BYTES = 1 << 20
_OTHER_FIELDS_BYTES = 1 << 20
_MAX_BYTES_PER_CHAR = 12
"""An astral character as two \\u escapes."""


def read_jsonl(stream: ShardStream, config: InputConfig) -> Iterator[StreamRecord]:
    """Lines of a shard.

    No line is held that is longer than a document of `max_document_chars` can make it.
    """
    reader = io.BufferedReader(stream, _PASS_BYTES)
    max_bytes = _MAX_BYTES_PER_CHAR * config.max_document_chars + _OTHER_FIELDS_BYTES
    offset = 0
    while line := reader.readline(max_bytes):
        start, num_bytes, complete = offset, len(line), line.endswith(b"\n")
        while not complete and (rest := reader.readline(_PASS_BYTES)):
            num_bytes += len(rest)
            complete = rest.endswith(b"\n")
        offset += num_bytes
        if stream.failure and not complete:
            yield _broken_end(stream.failure, start, line)
            return
        if num_bytes > len(line):
            collect = functools.partial(_collect_too_long, line=line, byte_offset=start)
        else:
            collect = functools.partial(_collect, line=line, byte_offset=start, config=config)
        blank = num_bytes == len(line) and not line.strip()
        yield StreamRecord(num_bytes=num_bytes, may_be_document=not blank, collect=collect)
    if stream.failure:
        yield _broken_end(stream.failure, offset, b"")


def _broken_end(failure: str, byte_offset: int, line: bytes) -> StreamRecord:
    def collect(unit: UnitCollector) -> None:
        detail = (
            f"{failure}; readable up to byte {byte_offset + len(line)} of the uncompressed text"
        )
        unit.quarantine_file(
            reason="corrupt_stream", detail=detail, byte_offset=byte_offset, raw=line or None
        )

    return StreamRecord(num_bytes=len(line), may_be_document=True, collect=collect)


def _collect_too_long(unit: UnitCollector, *, line: bytes, byte_offset: int) -> None:
    detail = f"the line is longer than {len(line)} bytes; see input.max_document_chars"
    unit.quarantine(reason="too_long", detail=detail, byte_offset=byte_offset, raw=line)


def _collect(unit: UnitCollector, *, line: bytes, byte_offset: int, config: InputConfig) -> None:
    """Add the document of a line, or say why it is none."""
    if not line.strip():
        unit.skip("blank_line")
        return
    try:
        row = json.loads(line.decode("utf-8-sig" if byte_offset == 0 else "utf-8"))
    except UnicodeDecodeError as error:
        reason, detail = "invalid_utf8", f"{error.reason} at byte {error.start} of the line"
    except (ValueError, RecursionError) as error:
        reason, detail = "bad_json", str(error)
    else:
        reason, detail = _text_problem(row, config.text_column)
    if reason:
        unit.quarantine(reason=reason, detail=detail, byte_offset=byte_offset, raw=line)
        return
    unit.add_document(
        doc_id=_field(row, config.id_column),
        url=_field(row, config.url_column),
        lang=_field(row, config.lang_column),
        text=row[config.text_column],
        byte_offset=byte_offset,
    )


def _text_problem(row: object, text_column: str) -> tuple[str, str]:
    """Reason and detail why a parsed line has no text; two empty strings if it has."""
    if not isinstance(row, dict):
        return "not_an_object", f"expected a JSON object, found {type(row).__name__}"
    if text_column not in row:
        return "missing_text", f"no key '{text_column}', found {list(row)}; set input.text_column"
    text = row[text_column]
    if text is None:
        return "null_text", f"'{text_column}' is null"
    if not isinstance(text, str):
        return "wrong_type", f"'{text_column}' is {type(text).__name__}, expected a string"
    return "", ""


def _field(row: dict[str, object], column: str | None) -> str | None:
    value = None if column is None else row.get(column)
    return value if value is None or isinstance(value, str) else json.dumps(value)
