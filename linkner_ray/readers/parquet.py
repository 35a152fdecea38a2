"""Parquet: its rows in units, none larger in rows or in bytes than config says."""

import contextlib
import io
import itertools
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from linkner_ray.config import InputConfig
from linkner_ray.errors import DataError
from linkner_ray.readers.compression import read_head
from linkner_ray.readers.documents import (
    PLACE,
    Checks,
    QuarantineRow,
    check_documents,
    quarantine_table,
    whole_shard_unit,
)
from linkner_ray.readers.other_format import find_other_format
from linkner_ray.readers.parquet_schema import (
    WANTED,
    as_documents,
    filter_expression,
    find_schema_fault,
    wanted_columns,
)
from linkner_ray.readers.row_ranges import GroupSlice, plan_row_ranges, row_group_rows
from linkner_ray.runs.units import UnitDocuments

_MOST_ROWS_AT_ONCE = 64
"""Rows that are decoded together; a row may be a page of several MB."""

_BEGIN_BYTES = 1 << 12

FILTERED = "filter"
"""Reason of rows that `input.filter` leaves out."""


@contextlib.contextmanager
def open_parquet(file: IO[bytes]) -> Iterator[pq.ParquetFile]:
    """Open a file by its footer.

    Raises:
        DataError: If it is no Parquet file or its footer is damaged.
    """
    try:
        parquet = pq.ParquetFile(file, pre_buffer=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # names may be damaged
        raise DataError(str(error)) from error
    with parquet:
        yield parquet


def read_parquet(
    file: IO[bytes], *, checks: Checks, done: Mapping[int, int]
) -> Iterator[UnitDocuments]:
    """Units of a file; row groups of which every unit is done, or no row wanted, are not read.

    Units are planned by the rows of the footer. A planned unit ends early, and another begins, when
    it holds `unit_chars` bytes of text, which only reading it tells.
    """
    try:
        with open_parquet(file) as parquet:
            fault = find_schema_fault(parquet.schema_arrow, checks.config)
            if fault is None:
                rows = _Rows(parquet, checks, _groups_to_read(file, checks.config))
                yield from _read_units(rows, checks=checks, done=done)
                return
            reason = fault.reason
            detail = f"{fault.detail} ({parquet.metadata.num_rows} rows)"
    except DataError as error:
        reason, detail = "unreadable_file", str(error)
    if 0 not in done:
        begin = b""
        if reason == "unreadable_file":
            begin = _begin(file)
            detail = find_other_format(read_head(io.BytesIO(begin)), "parquet") or detail
        yield whole_shard_unit(checks, reason=reason, detail=detail, begin=begin)


def _begin(file: IO[bytes]) -> bytes:
    """First bytes of an open file: an error page of a store, an archive, or Parquet after all."""
    file.seek(0)
    return file.read(_BEGIN_BYTES)


def _groups_to_read(file: IO[bytes], config: InputConfig) -> frozenset[int] | None:
    """Row groups in which the filter may let a row pass, by their statistics; None for all."""
    expression = filter_expression(config)
    if expression is None:
        return None
    from pyarrow.dataset import ParquetFileFormat

    try:
        groups = ParquetFileFormat().make_fragment(file).subset(expression).row_groups
    except (pa.ArrowException, OSError):  # statistics are damaged, and the rows may not be
        return None
    return frozenset(group.id for group in groups)


_Piece = tuple[GroupSlice, pa.Table | DataError | None]
"""Rows as columns of documents, why they cannot be read, or None where none of them is wanted."""


def _read_units(
    rows: "_Rows", *, checks: Checks, done: Mapping[int, int]
) -> Iterator[UnitDocuments]:
    units = plan_row_ranges(row_group_rows(rows.metadata), checks.config.unit_documents)
    wanted = [not _is_done(parts, done) for parts in units]
    read_until = {  # row group -> the last unit that needs it
        part.group: index for index, parts in enumerate(units) if wanted[index] for part in parts
    }
    for index, parts in enumerate(units):
        needed = (part for part in parts if index <= read_until.get(part.group, -1))
        pieces = itertools.chain.from_iterable(map(rows.take, needed))
        if not wanted[index]:
            deque(pieces, maxlen=0)  # passed over
            continue
        for unit_pieces, is_rest in _divide(pieces, checks.config.unit_chars):
            is_last = is_rest and index == len(units) - 1
            if _first_row(unit_pieces) not in done:
                yield _build_unit(unit_pieces, rows, checks=checks, is_last=is_last)


def _first_row(pieces: Sequence[_Piece]) -> int:
    return pieces[0][0].first_row if pieces else 0


def _is_done(parts: Sequence[GroupSlice], done: Mapping[int, int]) -> bool:
    """Whether finished units cover a planned unit, which may have become several."""
    if not parts:
        return 0 in done
    row, end = parts[0].first_row, parts[-1].first_row + parts[-1].num_rows
    while row < end and done.get(row):
        row += done[row]
    return row >= end


class _Rows:
    """Rows of a file from front to back, a few at a time."""

    def __init__(
        self, parquet: pq.ParquetFile, checks: Checks, groups: frozenset[int] | None
    ) -> None:
        self._parquet = parquet
        self._config = checks.config
        self._path = checks.path
        self._groups = groups
        schema = parquet.schema_arrow
        self._columns = wanted_columns(schema, checks.config)
        self.metadata = parquet.metadata
        self.none = as_documents(
            schema.empty_table().select(self._columns), checks.config, path=checks.path
        )
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._pending: pa.Table | DataError | None = None

    def take(self, part: GroupSlice) -> Iterator[_Piece]:
        """Rows that follow those taken before; from a fault of a row group on, the fault."""
        if self._groups is not None and part.group not in self._groups:
            yield part, None
            return
        if part.group != self._group:
            self._group, self._pending = part.group, None
            self._batches = self._parquet.iter_batches(
                batch_size=self._rows_at_once(), row_groups=[part.group], columns=self._columns
            )
        row, end = part.first_row, part.first_row + part.num_rows
        while row < end:
            while self._pending is None or (
                isinstance(self._pending, pa.Table) and not self._pending.num_rows
            ):
                self._pending = self._next_rows()
            if isinstance(self._pending, DataError):
                yield replace(part, first_row=row, num_rows=end - row), self._pending
                return
            taken = self._pending.slice(0, end - row)
            self._pending = self._pending.slice(end - row)
            yield replace(part, first_row=row, num_rows=taken.num_rows), taken
            row += taken.num_rows

    def _next_rows(self) -> pa.Table | DataError:
        try:
            batch = next(self._batches, None)
            if batch is None:
                return DataError("the row group has fewer rows than the footer says")
            return as_documents(pa.table(batch), self._config, path=self._path)
        except (pa.ArrowException, OSError) as error:
            return DataError(str(error))

    def _rows_at_once(self) -> int:
        """As many as make a unit by the mean size of a text, which a dictionary may hide."""
        group = self.metadata.row_group(self._group)
        columns = map(group.column, range(group.num_columns))
        name = self._config.text_column
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema == name)
        most = self._config.unit_chars * group.num_rows // max(size, 1)
        return min(max(most, 1), _MOST_ROWS_AT_ONCE)


def _divide(pieces: Iterable[_Piece], max_bytes: int) -> Iterator[tuple[list[_Piece], bool]]:
    """Rows of a planned unit in parts, and whether a part is the last; cut as a stream is."""
    import pyarrow.compute as pc  # here, since a plan imports this module and computes nothing

    taken: list[_Piece] = []
    num_bytes = 0
    for part, rows in pieces:
        if not isinstance(rows, pa.Table):
            taken.append((part, rows))
            continue
        begin = 0
        sizes = pc.if_else(rows[WANTED], pc.binary_length(rows["text"]), 0)
        for row, size in enumerate(pc.fill_null(sizes, 0).to_pylist()):
            if num_bytes >= max_bytes:
                yield [*taken, *_cut(part, rows, begin, row)], False
                taken, begin, num_bytes = [], row, 0
            num_bytes += size
        taken += _cut(part, rows, begin, rows.num_rows)
    yield taken, True


def _cut(part: GroupSlice, rows: pa.Table, begin: int, end: int) -> list[_Piece]:
    if begin == end:
        return []
    slice_ = replace(part, first_row=part.first_row + begin, num_rows=end - begin)
    return [(slice_, rows.slice(begin, end - begin))]


def _build_unit(
    pieces: Sequence[_Piece], rows: _Rows, *, checks: Checks, is_last: bool
) -> UnitDocuments:
    tables = [_placed(rows.none, range(0))]
    lost: list[QuarantineRow] = []
    for part, content in pieces:
        records = range(part.first_row, part.first_row + part.num_rows)
        if isinstance(content, DataError):
            offset = _byte_offset(rows.metadata, part.group)
            detail = f"row group {part.group}: {content}"
            lost += (
                QuarantineRow(record, offset, None, "corrupt_row_group", detail)
                for record in records
            )
        elif content is not None:
            tables.append(_placed(content, records))
    wanted = pa.concat_tables(tables)
    checked = check_documents(wanted, checks=checks)
    first, count = _first_row(pieces), sum(part.num_rows for part, _ in pieces)
    filtered = Counter({FILTERED: count - len(lost) - wanted.num_rows})
    num_rows = max(rows.metadata.num_rows, 1)
    return UnitDocuments(
        first_record=first,
        num_records=count,
        documents=checked.documents,
        quarantine=quarantine_table([*lost, *checked.quarantined], checks.path),
        skipped=dict(checked.skipped + filtered),
        is_last=is_last,
        begins=first / num_rows,
        ends=1.0 if is_last else (first + count) / num_rows,
    )


def _placed(rows: pa.Table, records: range) -> pa.Table:
    """Those of the rows that are wanted, with their place in the shard."""
    record, byte_offset = PLACE
    rows = rows.append_column(record, pa.array(records, record.type))
    rows = rows.append_column(byte_offset, pa.nulls(len(records), byte_offset.type))
    return rows.filter(rows[WANTED])


def _byte_offset(metadata: pq.FileMetaData, group: int) -> int | None:
    """Where the pages of a row group begin in the file; None if the footer says nothing usable."""
    columns = metadata.row_group(group)
    pages = [columns.column(index).data_page_offset for index in range(columns.num_columns)]
    return min((offset for offset in pages if offset > 0), default=None)
