"""What every format shares: the checks a row must pass to become a document."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from linkner_ray import schemas
from linkner_ray.readers.language import find_no_language
from linkner_ray.runs.units import UnitDocuments

MAX_DETAIL_CHARS = 1_000
"""Some details list what was found, and that may be any number of columns or keys."""


class CheckedDocuments(NamedTuple):
    """Rows of a shard, divided.

    Attributes:
        documents: Schema `schemas.DOCUMENTS`.
        quarantined: Rows that are bad.
        skipped: Number of rows whose text is no language, by reason.
    """

    documents: pa.Table
    quarantined: list["QuarantineRow"]
    skipped: Counter[str]


class QuarantineRow(NamedTuple):
    """A row of `schemas.QUARANTINE` without its path."""

    record: int | None
    byte_offset: int | None
    doc_id: str | None
    reason: str
    detail: str
    raw: str | None
    num_chars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What documents of one shard are held to.

    Attributes:
        path: The shard; documents without an id are named `path:record`.
        max_document_chars: Longer documents are quarantined.
        errors_raw_chars: Characters of a bad value that are kept.
    """

    path: str
    max_document_chars: int
    errors_raw_chars: int

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


def check_documents(
    table: pa.Table, records: Sequence[int], *, checks: Checks, byte_offsets: Sequence[int] | None
) -> CheckedDocuments:
    """Divide rows into documents, quarantined rows and rows that are skipped.

    Args:
        table: Columns `doc_id`, `url`, `lang`, `text` of type string, possibly null, whose bytes
            need not be valid UTF-8.
        records: Index in the shard of each row.
        checks: What the rows are held to.
        byte_offsets: Place in the shard of each row, where the format has one.
    """
    places = _Places(records, byte_offsets)
    rejected = _reject_invalid_utf8(table, places, checks)
    kept = _without(table, rejected)
    places = places.without(rejected)
    rows = list(rejected.values())
    rejected = _reject_null_and_long(kept, places, checks)
    rows += rejected.values()
    kept = _without(kept, rejected)
    places = places.without(rejected)
    skipped = _find_no_language(kept)
    kept = _without(kept, skipped)
    records = places.without(skipped).records
    documents = kept.set_column(
        kept.column_names.index("doc_id"), "doc_id", _named(kept["doc_id"], records, checks.path)
    )
    documents = documents.select(schemas.DOCUMENTS.names).cast(schemas.DOCUMENTS)
    return CheckedDocuments(documents, sorted(rows, key=record_of), Counter(skipped.values()))


def _find_no_language(table: pa.Table) -> dict[int, str]:
    """Reasons of the rows whose text is no language, by their position in the table."""
    reasons = enumerate(map(find_no_language, table["text"].to_pylist()))
    return {row: reason for row, reason in reasons if reason is not None}


def record_of(row: QuarantineRow) -> int:
    """Place of a row in its shard, by which rows are sorted."""
    return -1 if row.record is None else row.record


class _Places(NamedTuple):
    records: Sequence[int]
    byte_offsets: Sequence[int] | None

    def without(self, rejected: Mapping[int, object]) -> "_Places":
        if not rejected:
            return self
        kept = [row for row in range(len(self.records)) if row not in rejected]
        offsets = self.byte_offsets
        return _Places(
            [self.records[row] for row in kept],
            None if offsets is None else [offsets[row] for row in kept],
        )

    def byte_offset(self, row: int) -> int | None:
        return None if self.byte_offsets is None else self.byte_offsets[row]


def _without(table: pa.Table, rejected: Mapping[int, object]) -> pa.Table:
    if not rejected:
        return table
    mask = np.ones(table.num_rows, dtype=bool)
    mask[list(rejected)] = False
    return table.filter(pa.array(mask))


def _reject_invalid_utf8(
    table: pa.Table, places: _Places, checks: Checks
) -> dict[int, QuarantineRow]:
    """Rows with bytes that are no UTF-8, by their position in the table."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        pass
    else:
        return {}
    rejected: dict[int, QuarantineRow] = {}
    for name in table.column_names:
        for row, value in enumerate(table[name].cast(pa.binary()).to_pylist()):
            problem = None if value is None or row in rejected else _decoding_error(value)
            if problem is not None:
                rejected[row] = QuarantineRow(
                    record=int(places.records[row]),
                    byte_offset=places.byte_offset(row),
                    doc_id=None,
                    reason="invalid_utf8",
                    detail=f"{name}: {problem}",
                    raw=checks.raw(value),
                    num_chars=_num_chars(table["text"].slice(row, 1)),
                )
    return rejected


def _decoding_error(value: bytes) -> str | None:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"{error.reason} at byte {error.start}"
    return None


def _num_chars(text: pa.ChunkedArray) -> int:
    value = text.cast(pa.binary())[0].as_py()
    return 0 if value is None else len(value.decode(errors="replace"))


def _reject_null_and_long(
    table: pa.Table, places: _Places, checks: Checks
) -> dict[int, QuarantineRow]:
    """Rows without text or with too much of it, by their position in the table."""
    import pyarrow.compute as pc  # here, since a plan imports this module and computes nothing

    num_chars = pc.utf8_length(table["text"])
    too_long = pc.greater(num_chars, checks.max_document_chars)
    bad = pc.fill_null(too_long, fill_value=True).to_numpy()
    rejected: dict[int, QuarantineRow] = {}
    for row in np.flatnonzero(bad).tolist():
        count = num_chars[row].as_py()
        is_null = count is None
        rejected[row] = QuarantineRow(
            record=int(places.records[row]),
            byte_offset=places.byte_offset(row),
            doc_id=table["doc_id"][row].as_py(),
            reason="null_text" if is_null else "too_long",
            detail=(
                "the text is null"
                if is_null
                else f"{count} characters; input.max_document_chars is {checks.max_document_chars}"
            ),
            raw=None if is_null else checks.raw(table["text"][row].as_py()),
            num_chars=0 if is_null else count,
        )
    return rejected


def _named(doc_ids: pa.ChunkedArray, records: Sequence[int], path: str) -> pa.ChunkedArray:
    """Ids, with `path:record` for those that are null, empty or blank."""
    import pyarrow.compute as pc

    given = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(doc_ids), ""), fill_value=False)
    if pc.all(given).as_py():
        return doc_ids
    names = pa.array((f"{path}:{record}" for record in records), pa.string(), size=len(records))
    return pc.if_else(given, doc_ids, names)


def quarantine_table(rows: Sequence[QuarantineRow], path: str) -> pa.Table:
    """Quarantined rows of one shard as a table of `schemas.QUARANTINE`."""
    columns: Iterator[tuple[object, ...]] = zip(*rows, strict=True) if rows else iter(())
    by_name = dict(zip(QuarantineRow._fields, columns, strict=False))
    by_name["detail"] = tuple(map(_cut, by_name.get("detail", ())))
    arrays = [
        pa.array([path] * len(rows) if field.name == "path" else by_name.get(field.name, ())).cast(
            field.type
        )
        for field in schemas.QUARANTINE
    ]
    return pa.Table.from_arrays(arrays, schema=schemas.QUARANTINE)


def _cut(detail: object) -> str:
    text = str(detail)
    return text if len(text) <= MAX_DETAIL_CHARS else f"{text[: MAX_DETAIL_CHARS - 4]} ..."


def whole_shard_unit(
    checks: Checks, *, reason: str, detail: str, begin: bytes = b""
) -> UnitDocuments:
    """The only unit of a shard that cannot be read at all; it counts as one record.

    Args:
        checks: Of the shard.
        reason: A short word to count by.
        detail: What was found.
        begin: First bytes of the shard, which often say what it is instead.
    """
    row = QuarantineRow(None, None, None, reason, detail, checks.raw(begin) if begin else None, 0)
    return UnitDocuments(
        first_record=0,
        num_records=1,
        documents=schemas.DOCUMENTS.empty_table(),
        quarantine=quarantine_table([row], checks.path),
        skipped={},
        is_last=True,
    )
