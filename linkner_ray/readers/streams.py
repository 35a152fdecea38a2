"""Records of a stream, gathered into units."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from linkner_ray.readers.documents import (
    PLACE,
    Checks,
    QuarantineRow,
    check_documents,
    quarantine_table,
)
from linkner_ray.runs.units import UnitDocuments

_TEXT_COLUMNS = ("doc_id", "url", "lang", "text")


class UnitCollector:
    """Gathers the records of one unit of a stream."""

    def __init__(self, first_record: int, *, checks: Checks) -> None:
        self.first_record = first_record
        self.checks = checks
        self._num_records = 0
        self._documents: list[tuple[bytes | int | None, ...]] = []
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
            row = (_encode(doc_id), _encode(url), _encode(lang), _encode(text))
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
        self._documents.append((*row, self.record, byte_offset))
        self._num_records += 1

    def quarantine(  # noqa: PLR0913 - a row of the quarantine
        self,
        *,
        reason: str,
        detail: str,
        byte_offset: int,
        raw: bytes | str | None = None,
        num_chars: int = 0,
        of_file: bool = False,
    ) -> None:
        """Take a record that is bad.

        With `of_file` it is a fault of the file, after which nothing of it can be read: counted
        apart, since one such row may stand for any number of documents.
        """
        record = None if of_file else self.record
        kept = None if raw is None else self.checks.raw(raw)
        row = QuarantineRow(record, byte_offset, None, reason, detail, kept, num_chars)
        self._quarantined.append(row)
        self._num_records += 1

    def skip(self, reason: str) -> None:
        """Count a record that is no document."""
        self._skipped[reason] += 1
        self._num_records += 1

    def build(self, *, is_last: bool) -> UnitDocuments:
        """The unit with what it has taken."""
        *texts, records, offsets = (
            zip(*self._documents, strict=True) if self._documents else [()] * 6
        )
        arrays = [pa.array(column, pa.binary()).view(pa.string()) for column in texts]
        places = [pa.array(column, pa.int64()) for column in (records, offsets)]
        names = [*_TEXT_COLUMNS, *(field.name for field in PLACE)]
        table = pa.Table.from_arrays([*arrays, *places], names=names)
        checked = check_documents(table, checks=self.checks)
        rows = [*self._quarantined, *checked.quarantined]
        return UnitDocuments(
            first_record=self.first_record,
            num_records=self._num_records,
            documents=checked.documents,
            quarantine=quarantine_table(rows, self.checks.path),
            skipped=dict(self._skipped + checked.skipped),
            is_last=is_last,
        )


def _encode(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """A record that has been found in a stream but not looked into."""

    num_bytes: int
    """Size by which units are cut; never less than its characters."""

    may_be_document: bool
    """False where it is plain before looking that it is none."""

    collect: Callable[[UnitCollector], None]
    """Looks into it and adds it to a unit, as exactly one record. Valid until the next record is
    asked for."""


def bad_record(  # noqa: PLR0913 - those of `UnitCollector.quarantine`
    *,
    reason: str,
    detail: str,
    byte_offset: int,
    num_bytes: int,
    raw: bytes | None = None,
    of_file: bool = False,
) -> StreamRecord:
    """A record that goes into quarantine; the arguments are those of `UnitCollector.quarantine`."""

    def collect(unit: UnitCollector) -> None:
        unit.quarantine(
            reason=reason, detail=detail, byte_offset=byte_offset, raw=raw, of_file=of_file
        )

    return StreamRecord(num_bytes=num_bytes, may_be_document=True, collect=collect)


def broken_end(failure: str, byte_offset: int, line: bytes = b"") -> StreamRecord:
    """The end of a stream that is corrupt or ends too early, in the record at an offset."""
    readable = byte_offset + len(line)
    return bad_record(
        reason="corrupt_stream",
        detail=f"{failure}; readable up to byte {readable} of the uncompressed stream",
        byte_offset=byte_offset,
        num_bytes=len(line),
        raw=line or None,
        of_file=True,
    )


def whole_stream(detail: str, head: bytes) -> StreamRecord:
    """A shard that is of another format, as its only record.

    Args:
        detail: What it is instead.
        head: Its first bytes.
    """
    return bad_record(
        reason="unreadable_file",
        detail=detail,
        byte_offset=0,
        num_bytes=len(head),
        raw=head,
        of_file=True,
    )


def group_records(
    records: Iterable[StreamRecord],
    *,
    checks: Checks,
    is_done: Callable[[int], bool],
    progress: Callable[[], float],
) -> Iterator[UnitDocuments]:
    """Cut a stream into units, passing over those that are done.

    A unit ends when it holds `unit_documents` possible documents or `unit_chars` bytes of them.
    Both are known without looking into a record, so what is done cannot move a boundary.
    """
    config = checks.config
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
