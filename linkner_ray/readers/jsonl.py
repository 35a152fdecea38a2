"""JSON Lines: a line is a document."""

import functools
import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from linkner_ray.config import InputConfig
from linkner_ray.readers.compression import ShardStream
from linkner_ray.readers.other_format import HEAD_BYTES, find_other_format
from linkner_ray.readers.sources import folder_values, lang_column
from linkner_ray.readers.streams import (
    StreamRecord,
    UnitCollector,
    bad_record,
    broken_end,
    whole_stream,
)

_PASS_BYTES = 1 << 20
_OTHER_FIELDS_BYTES = 1 << 20
_MAX_BYTES_PER_CHAR = 12
"""An astral character as two \\u escapes."""

_MAX_DIGITS = 4_000
"""Python refuses to read an integer of more than 4,300 digits."""


def read_jsonl(stream: ShardStream, config: InputConfig) -> Iterator[StreamRecord]:
    """Lines of a shard.

    No line is held that is longer than a document of `max_document_chars` can make it.
    """
    reader = io.BufferedReader(stream, _PASS_BYTES)
    head = reader.peek()[:HEAD_BYTES]
    if other := find_other_format(head, "jsonl"):
        yield whole_stream(other, head)
        return
    max_bytes = _MAX_BYTES_PER_CHAR * config.max_document_chars + _OTHER_FIELDS_BYTES
    offset = 0
    while line := reader.readline(max_bytes):
        start, num_bytes, complete = offset, len(line), line.endswith(b"\n")
        while not complete and (rest := reader.readline(_PASS_BYTES)):
            num_bytes += len(rest)
            complete = rest.endswith(b"\n")
        offset += num_bytes
        if stream.failure and not complete:
            yield broken_end(stream.failure, start, line)
            return
        if num_bytes > len(line):
            yield bad_record(
                reason="too_long",
                detail=f"the line is longer than {len(line)} bytes; see input.max_document_chars",
                byte_offset=start,
                num_bytes=num_bytes,
                raw=line,
            )
            continue
        yield StreamRecord(
            num_bytes=num_bytes,
            may_be_document=bool(line.strip()),
            collect=functools.partial(_collect, line=line, byte_offset=start, config=config),
        )
    if stream.failure:
        yield broken_end(stream.failure, offset)


def _collect(unit: UnitCollector, *, line: bytes, byte_offset: int, config: InputConfig) -> None:
    """Add the document of a line, or say why it is none."""
    if not line.strip():
        unit.skip("blank_line")
        return
    try:
        row, twice = _load(line.decode("utf-8-sig" if byte_offset == 0 else "utf-8"))
    except UnicodeDecodeError as error:
        reason, detail = "invalid_utf8", f"{error.reason} at byte {error.start} of the line"
    except (ValueError, RecursionError) as error:
        reason, detail = "bad_json", str(error)
    else:
        reason, detail = _text_problem(row, config.text_column)
        if not reason:
            reason, detail = _other_problem(row, twice, config)
    if reason:
        unit.quarantine(reason=reason, detail=detail, byte_offset=byte_offset, raw=line)
        return
    of_folders = folder_values(unit.checks.path, config)
    columns = _columns(row, config)
    values = {
        name: _field(row[column]) if column in row else of_folders.get(name)
        for name, column in columns.items()
    }
    unit.add_document(**values, text=row[config.text_column], byte_offset=byte_offset)


def _columns(row: Mapping[str, object], config: InputConfig) -> dict[str, str | None]:
    """Columns of documents beside the text, with the key that each has in a line."""
    strings = [key for key, value in row.items() if value is None or isinstance(value, str)]
    return {
        "doc_id": config.id_column,
        "url": config.url_column,
        "lang": lang_column(strings, config),
    }


def _load(text: str) -> tuple[Any, list[str]]:
    """Value of a line, and the keys that its object has more than once.

    NaN and Infinity, which are no JSON but what Python writes for a missing number, are null. An
    integer that Python takes for too long is infinite, as 1e999 is.
    """
    twice: list[str] = []

    def to_dict(pairs: list[tuple[str, object]]) -> dict[str, object]:
        row = dict(pairs)
        # Called for the objects inside first, so what stays is of the outermost one.
        counts = Counter(key for key, _ in pairs) if len(row) < len(pairs) else {}
        twice[:] = [key for key, count in counts.items() if count > 1]
        return row

    row = json.loads(
        text, object_pairs_hook=to_dict, parse_constant=lambda _: None, parse_int=_to_int
    )
    return row, twice


def _to_int(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else math.inf


def _text_problem(row: object, text_column: str) -> tuple[str, str]:
    """Reason and detail why a parsed line has no text; two empty strings if it has."""
    if not isinstance(row, dict):
        return "not_an_object", f"expected a JSON object, found {type(row).__name__}"
    if text_column not in row:
        return "missing_text", f"no key '{text_column}', found {list(row)}{_advice(row)}"
    text = row[text_column]
    if text is None:
        return "null_text", f"'{text_column}' is null"
    if not isinstance(text, str):
        found = f"'{text_column}' is {type(text).__name__}, expected a string"
        return "wrong_type", f"{found}{_advice({text_column: text})}"
    return "", ""


def _advice(row: Mapping[str, object]) -> str:
    """What to do with a line without a text; labelled corpora have words instead of one."""
    words = (
        key
        for key, value in row.items()
        if isinstance(value, list) and value and all(isinstance(word, str) for word in value)
    )
    for key in words:
        return f"; '{key}' is a list of words: join them with blanks into a text"
    return "; set input.text_column"


def _other_problem(
    row: Mapping[str, object], twice: Sequence[str], config: InputConfig
) -> tuple[str, str]:
    """Reason and detail why what a line says of its text cannot be trusted, as above."""
    for name, key in _columns(row, config).items():
        setting = f"{name.removeprefix('doc_')}_column"
        if key in twice:
            return "bad_json", f"key '{key}' is given twice"
        if key is not None and isinstance(row.get(key), bool | list | dict):
            found = type(row[key]).__name__
            detail = f"'{key}' is {found}, expected a string or a number; set input.{setting}"
            return "wrong_type", detail
    if config.text_column in twice:
        return "bad_json", f"key '{config.text_column}' is given twice"
    return "", ""


def _field(value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return None  # such as 1e999
    return value if value is None or isinstance(value, str) else str(value)
