"""Records of a stream, gathered into units."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from linkner_ray.config import InputConfig
from linkner_ray.readers.documents import (
    Checks,
    QuarantineRow,
    check_documents,
    quarantine_table,
)
from linkner_ray.runs.units import UnitDocuments


class UnitCollector:
    """Gathers the records of one unit of a stream."""

    def __init__(self, first_record: int, *, checks: Checks) -> None:
        self.first_record = first_record
        self.checks = checks
        self._num_records = 0
        self._records: list[int] = []
        self._byte_offsets: list[int] = []
        self._fields: list[tuple[bytes | None, bytes | None, bytes | None, bytes | None]] = []
        self._quarantined: list[QuarantineRow] = []
        self._skipped: Counter[str] = Counter()

    @property
    def record(self) -> int:
        """Index in the shard of the record that comes next."""
        return self.first_record + self._num_records

    def add_document(
        self,
        *,
        doc_id: str | None,
        url: str | None,
        lang: str | None,
        text: str | bytes,
        byte_offset: int,
    ) -> None:
        """Take a document; text as bytes is checked to be UTF-8, as str to be Unicode."""
        try:
            fields = (_encode(doc_id), _encode(url), _encode(lang), _encode(text))
        except UnicodeEncodeError as error:
            found = f"U+{ord(error.object[error.start]):04X}"
            self.quarantine(
                reason="invalid_unicode",
                detail=f"lone surrogate {found} at character {error.start}",
                raw=error.object,
                byte_offset=byte_offset,
                num_chars=len(text),
            )
            return
        self._records.append(self.record)
        self._byte_offsets.append(byte_offset)
        self._fields.append(fields)
        self._num_records += 1

    def quarantine(
        self,
        *,
        reason: str,
        detail: str,
        byte_offset: int,
        raw: bytes | str | None = None,
        num_chars: int = 0,
    ) -> None:
        """Take a record that is bad."""
        kept = None if raw is None else self.checks.raw(raw)
        row = QuarantineRow(self.record, byte_offset, None, reason, detail, kept, num_chars)
        self._quarantined.append(row)
        self._num_records += 1

    def quarantine_file(
        self, *, reason: str, detail: str, byte_offset: int, raw: bytes | None = None
    ) -> None:
        """Take a fault of the file, after which nothing of it can be read; no document of its own.

        Counted apart: one such row may stand for any number of documents.
        """
        kept = None if raw is None else self.checks.raw(raw)
        self._quarantined.append(QuarantineRow(None, byte_offset, None, reason, detail, kept, 0))
        self._num_records += 1

    def skip(self, reason: str) -> None:
        """Count a record that is no document."""
        self._skipped[reason] += 1
        self._num_records += 1

    def build(self, *, is_last: bool) -> UnitDocuments:
        """The unit with what it has taken."""
        columns = list(zip(*self._fields, strict=True)) or [()] * 4
        arrays = [pa.array(column, pa.binary()).view(pa.string()) for column in columns]
        table = pa.Table.from_arrays(arrays, names=["doc_id", "url", "lang", "text"])
        checked = check_documents(
            table, self._records, checks=self.checks, byte_offsets=self._byte_offsets
        )
        rows = sorted([*self._quarantined, *checked.quarantined], key=_place_of)
        return UnitDocuments(
            first_record=self.first_record,
            num_records=self._num_records,
            documents=checked.documents,
            quarantine=quarantine_table(rows, self.checks.path),
            skipped=dict(self._skipped + checked.skipped),
            is_last=is_last,
        )


def _place_of(row: QuarantineRow) -> float:
    """Records in order; what ends a file comes last."""
    return math.inf if row.record is None else row.record


def _encode(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """A record that has been found in a stream but not looked into.

    Attributes:
        num_bytes: Size by which units are cut; never less than its characters.
        may_be_document: False where it is plain before looking that it is none.
        collect: Looks into it and adds it to a unit, as exactly one record. Valid until the next
            record is asked for.
    """

    num_bytes: int
    may_be_document: bool
    collect: Callable[[UnitCollector], None]


def group_records(
    records: Iterable[StreamRecord],
    *,
    config: InputConfig,
    checks: Checks,
    is_done: Callable[[int], bool],
    progress: Callable[[], float],
) -> Iterator[UnitDocuments]:
    """Cut a stream into units, passing over those that are done.

    A unit ends when it holds `unit_documents` possible documents or `unit_chars` bytes of them.
    Both are known without looking into a record, so what is done cannot move a boundary.
    """
    unit = UnitCollector(0, checks=checks)
    passing = is_done(0)
    begins = 0.0
    num_documents = num_bytes = 0
    for index, record in enumerate(records):
        if num_documents >= config.unit_documents or num_bytes >= config.unit_chars:
            ends = progress()
            if not passing:
                yield replace(unit.build(is_last=False), begins=begins, ends=ends)
            begins = ends
            unit = UnitCollector(index, checks=checks)
            passing = is_done(index)
            num_documents = num_bytes = 0
        if record.may_be_document:
            num_documents += 1
            num_bytes += record.num_bytes
        if not passing:
            record.collect(unit)
    if not passing:
        yield replace(unit.build(is_last=True), begins=begins)
