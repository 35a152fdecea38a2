"""What every format shares: the checks a row must pass to become a document."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from linkner_ray import schemas
from linkner_ray.config import InputConfig
from linkner_ray.config.languages import parse_language
from linkner_ray.readers.detect_language import find_unwanted_language
from linkner_ray.readers.no_language import find_no_language
from linkner_ray.runs.units import UnitDocuments

MAX_DETAIL_CHARS = 1_000
"""Some details list what was found, and that may be any number of columns or keys."""

PLACE = (pa.field("linkner:record", pa.int64()), pa.field("linkner:byte_offset", pa.int64()))
"""Columns of rows before they are checked: index in the shard, and byte where there is one. Shards
may have columns of any name, but hardly of these."""


class CheckedDocuments(NamedTuple):
    """Rows of a shard, divided."""

    documents: pa.Table
    """Schema `schemas.DOCUMENTS`, with the columns that are carried along."""

    quarantined: list["QuarantineRow"]
    skipped: Counter[str]
    """Number of rows that are not to be read, by reason."""


class QuarantineRow(NamedTuple):
    """A row of `schemas.QUARANTINE` without its path."""

    record: int | None
    byte_offset: int | None
    doc_id: str | None
    reason: str
    detail: str
    raw: str | None = None
    num_chars: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What documents of one shard are held to."""

    path: str
    """The shard; documents without an id are named `path:record`."""

    config: InputConfig
    errors_raw_chars: int
    """Characters of a bad value that are kept."""

    def raw(self, value: bytes | str) -> str:
        """Start of a bad value as printable text; what cannot be printed is escaped."""
        limit = self.errors_raw_chars
        # A code point has at most 4 bytes, so this prefix holds `limit` of them.
        prefix = value[: 4 * limit]
        text = prefix.decode(errors="backslashreplace") if isinstance(prefix, bytes) else prefix
        return "".join(map(_printable, text[:limit]))[:limit]


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def check_documents(table: pa.Table, *, checks: Checks) -> CheckedDocuments:
    """Divide rows into documents, quarantined rows and rows that are skipped.

    Args:
        table: Columns `doc_id`, `url`, `lang`, `text` of type string, possibly null, whose bytes
            need not be valid UTF-8; those of PLACE; and any that are carried along.
        checks: What the rows are held to.
    """
    quarantined: list[QuarantineRow] = []
    find: Callable[[pa.Table, Checks], Mapping[int, QuarantineRow]]
    for find in (_find_invalid_utf8, _find_null_and_long):
        rows = find(table, checks)
        quarantined += rows.values()
        table = _without(table, rows)
    skipped = _find_skipped(table, checks.config)
    table = _without(table, skipped)
    named = table.set_column(
        table.column_names.index("doc_id"), "doc_id", _named(table, checks.path)
    )
    carried = [name for name in checks.config.columns if name in table.column_names]
    schema = pa.schema([*schemas.DOCUMENTS, *map(table.schema.field, carried)])
    documents = named.select(schema.names).cast(schema)
    return CheckedDocuments(documents, quarantined, Counter(skipped.values()))


def _without(table: pa.Table, places: Mapping[int, object]) -> pa.Table:
    """A table without the rows at these places."""
    if not places:
        return table
    mask = np.ones(table.num_rows, dtype=bool)
    mask[list(places)] = False
    return table.filter(pa.array(mask))


def _quarantine_row(  # noqa: PLR0913 - a row of the quarantine
    table: pa.Table, row: int, *, doc_id: str | None, reason: str, detail: str, raw: str | None
) -> QuarantineRow:
    """Row of a table as one of the quarantine; its text need not be valid."""
    record, byte_offset = (table[field.name][row].as_py() for field in PLACE)
    text = table["text"].slice(row, 1).cast(pa.binary())[0].as_py() or b""
    num_chars = len(text.decode(errors="replace"))
    return QuarantineRow(record, byte_offset, doc_id, reason, detail, raw, num_chars)


def _find_invalid_utf8(table: pa.Table, checks: Checks) -> dict[int, QuarantineRow]:
    """Rows with bytes that are no UTF-8, by their place in the table."""
    strings = table.select(["doc_id", "url", "lang", "text"])
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        pass
    else:
        return {}
    found: dict[int, QuarantineRow] = {}
    for name in strings.column_names:
        for row, value in enumerate(table[name].cast(pa.binary()).to_pylist()):
            problem = None if value is None or row in found else _decoding_error(value)
            if problem is not None:
                found[row] = _quarantine_row(
                    table,
                    row,
                    doc_id=None,
                    reason="invalid_utf8",
                    detail=f"{name}: {problem}",
                    raw=checks.raw(value),
                )
    return found


def _decoding_error(value: bytes) -> str | None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"{error.reason} at byte {error.start}"
    return None


def _find_null_and_long(table: pa.Table, checks: Checks) -> dict[int, QuarantineRow]:
    """Rows without text or with too much of it, by their place in the table."""
    import pyarrow.compute as pc  # here, since a plan imports this module and computes nothing

    limit = checks.config.max_document_chars
    num_chars = pc.utf8_length(table["text"])
    bad = pc.fill_null(pc.greater(num_chars, limit), fill_value=True).to_numpy()
    found: dict[int, QuarantineRow] = {}
    for row in np.flatnonzero(bad).tolist():
        text = table["text"][row].as_py()
        if text is None:
            reason, detail, raw = "null_text", "the text is null", None
        else:
            detail = f"{len(text)} characters; input.max_document_chars is {limit}"
            reason, raw = "too_long", checks.raw(text)
        doc_id = table["doc_id"][row].as_py()
        found[row] = _quarantine_row(
            table, row, doc_id=doc_id, reason=reason, detail=detail, raw=raw
        )
    return found


def _find_skipped(table: pa.Table, config: InputConfig) -> dict[int, str]:
    """Reasons of the rows that are not to be read, by their place in the table."""
    wanted = tuple(map(parse_language, config.languages))
    found: dict[int, str] = {}
    columns = (table["text"].to_pylist(), table["lang"].to_pylist())
    for row, (text, said) in enumerate(zip(*columns, strict=True)):
        reason = find_no_language(text)
        if reason is None and wanted:
            reason = find_unwanted_language(text, said, wanted)
        if reason is not None:
            found[row] = reason
    return found


def _named(table: pa.Table, path: str) -> pa.ChunkedArray:
    """Ids, with `path:record` for those that are null, empty or blank."""
    import pyarrow.compute as pc

    ids = table["doc_id"]
    given = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(ids), ""), fill_value=False)
    if pc.all(given).as_py():
        return ids
    names = [f"{path}:{record}" for record in table[PLACE[0].name].to_pylist()]
    return pc.if_else(given, ids, pa.array(names, pa.string()))


def quarantine_table(rows: Sequence[QuarantineRow], path: str) -> pa.Table:
    """Quarantined rows of one shard as a table of `schemas.QUARANTINE`, in the order of records.

    What stands for the rest of a file, and so for no record, comes last.
    """
    rows = sorted(rows, key=lambda row: (row.record is None, row.record or 0))
    return pa.Table.from_pylist(
        [{**row._asdict(), "path": path, "detail": _cut(row.detail)} for row in rows],
        schema=schemas.QUARANTINE,
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_DETAIL_CHARS else f"{text[: MAX_DETAIL_CHARS - 4]} ..."


def whole_shard_unit(
    checks: Checks, *, reason: str, detail: str, begin: bytes = b""
) -> UnitDocuments:
    """The only unit of a shard that cannot be read at all; it counts as one record.

    The first bytes of the shard, which often say what it is instead, are kept.
    """
    row = QuarantineRow(None, None, None, reason, detail, checks.raw(begin) if begin else None)
    return UnitDocuments(
        first_record=0,
        num_records=1,
        documents=schemas.DOCUMENTS.empty_table(),
        quarantine=quarantine_table([row], checks.path),
        skipped={},
        is_last=True,
    )
