"""Parquet: a unit is a run of row groups, or a slice of a large one."""

import contextlib
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from linkner_ray import schemas
from linkner_ray.config import InputConfig
from linkner_ray.errors import DataError
from linkner_ray.readers.documents import (
    Checks,
    QuarantineRow,
    check_documents,
    quarantine_table,
    whole_shard_unit,
)
from linkner_ray.runs.units import UnitDocuments

_MAX_ARRAY_BYTES = 2**31 - 1
"""Bytes that 32-bit offsets can reach."""

_BEGIN_BYTES = 1 << 12


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSlice:
    """Consecutive rows of one row group."""

    group: int
    first_row: int
    """Index in the shard."""

    num_rows: int


def plan_row_ranges(
    row_group_rows: Sequence[int], unit_documents: int
) -> list[tuple[GroupSlice, ...]]:
    """Divide the rows of a shard into units.

    Args:
        row_group_rows: Rows of each row group.
        unit_documents: Most rows in a unit.

    Returns:
        The parts of each unit: whole row groups as long as they fit together, or one slice of a
        row group that is larger than a unit. A shard without rows has one unit without parts.
    """
    units: list[tuple[GroupSlice, ...]] = []
    pending: list[GroupSlice] = []
    num_pending = first_row = 0
    for group, num_rows in enumerate(row_group_rows):
        if pending and num_pending + num_rows > unit_documents:
            units.append(tuple(pending))
            pending, num_pending = [], 0
        if num_rows > unit_documents:
            for start in range(0, num_rows, unit_documents):
                size = min(unit_documents, num_rows - start)
                units.append((GroupSlice(group=group, first_row=first_row + start, num_rows=size),))
        elif num_rows:
            pending.append(GroupSlice(group=group, first_row=first_row, num_rows=num_rows))
            num_pending += num_rows
        first_row += num_rows
    if pending or not units:
        units.append(tuple(pending))
    return units


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """Why no row of a file can be read."""

    reason: str
    detail: str


def find_schema_fault(schema: pa.Schema, config: InputConfig) -> SchemaFault | None:
    """Compare the columns of a file with those that config names.

    Only the text column must be there. Ids may be integers; all others are strings.
    """
    column = config.text_column
    if column not in schema.names:
        close = difflib.get_close_matches(column, schema.names, 1)
        nearest = f"; nearest is '{close[0]}'" if close else ""
        detail = f"no column '{column}', found {schema.names}{nearest}; set input.text_column"
        return SchemaFault("missing_column", detail)
    if not _is_text(schema.field(column).type):
        return _wrong_type(schema, "text_column", column)
    optional = {"url_column": config.url_column, "lang_column": config.lang_column}
    for key, name in {"id_column": config.id_column, **optional}.items():
        if name is None or name not in schema.names:
            continue
        kind = schema.field(name).type
        if not _is_text(kind) and not (key == "id_column" and pa.types.is_integer(kind)):
            return _wrong_type(schema, key, name)
    return None


def _wrong_type(schema: pa.Schema, key: str, column: str) -> SchemaFault:
    strings = [field.name for field in schema if _is_text(field.type)]
    found = schema.field(column).type
    detail = f"column '{column}' has type {found}, columns of strings: {strings}; set input.{key}"
    return SchemaFault("wrong_type", detail)


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column can be read as strings; one that is null throughout has no other type."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_null,
    )
    return any(check(kind) for check in checks)


@contextlib.contextmanager
def open_parquet(file: IO[bytes] | str) -> Iterator[pq.ParquetFile]:
    """Open a file by its footer.

    Raises:
        DataError: If it is no Parquet file or its footer is damaged.
        ConnectionError, TimeoutError: If its store cannot be reached; worth another try.
    """
    try:
        parquet = pq.ParquetFile(file, pre_buffer=True)
    except (ConnectionError, TimeoutError):
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # names may be damaged
        raise DataError(str(error)) from error
    with parquet:
        yield parquet


def read_parquet(
    file: IO[bytes] | str,
    config: InputConfig,
    *,
    checks: Checks,
    is_done: Callable[[int], bool],
) -> Iterator[UnitDocuments]:
    """Units of a file; row groups of which every unit is done are not read."""
    try:
        with open_parquet(file) as parquet:
            fault = find_schema_fault(parquet.schema_arrow, config)
            if fault is None:
                yield from _read_units(parquet, config, checks=checks, is_done=is_done)
                return
            reason = fault.reason
            detail = f"{fault.detail} ({parquet.metadata.num_rows} rows)"
    except DataError as error:
        reason, detail = "unreadable_file", str(error)
    if not is_done(0):
        begin = _begin(file) if reason == "unreadable_file" else b""
        yield whole_shard_unit(checks, reason=reason, detail=detail, begin=begin)


def _begin(file: IO[bytes] | str) -> bytes:
    """First bytes of an open file: an error page of a store, an archive, or Parquet after all."""
    if isinstance(file, str):
        return b""
    file.seek(0)
    return file.read(_BEGIN_BYTES)


def _read_units(
    parquet: pq.ParquetFile,
    config: InputConfig,
    *,
    checks: Checks,
    is_done: Callable[[int], bool],
) -> Iterator[UnitDocuments]:
    num_rows_of = row_group_rows(parquet.metadata)
    units = plan_row_ranges(num_rows_of, config.unit_documents)
    wanted = [not is_done(parts[0].first_row if parts else 0) for parts in units]
    read_until = {  # row group -> the last unit that needs it
        part.group: index for index, parts in enumerate(units) if wanted[index] for part in parts
    }
    columns = _columns(parquet.schema_arrow, config)
    slices: Iterator[pa.Table | DataError] = iter(())
    group = -1
    for index, parts in enumerate(units):
        pieces = []
        for part in parts:
            if index > read_until.get(part.group, -1):
                continue
            if part.group != group:
                group = part.group
                size = min(config.unit_documents, num_rows_of[group])
                slices = _slices(parquet, group, columns, num_rows=num_rows_of[group], size=size)
            pieces.append((part, next(slices)))
        if wanted[index]:
            is_last = index == len(units) - 1
            offsets = {part.group: _byte_offset(parquet.metadata, part.group) for part in parts}
            unit = _build_unit(pieces, config, checks=checks, is_last=is_last, offsets=offsets)
            first, num_rows = unit.first_record, max(sum(num_rows_of), 1)
            ends = 1.0 if is_last else (first + unit.num_records) / num_rows
            yield replace(unit, begins=first / num_rows, ends=ends)


def row_group_rows(metadata: pq.FileMetaData) -> list[int]:
    """Rows of each row group.

    Raises:
        DataError: If they do not add up; a damaged count could ask for any number of units.
    """
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if sum(rows) != metadata.num_rows or min(rows, default=0) < 0:
        raise DataError(f"the footer counts {metadata.num_rows} rows, its row groups {sum(rows)}")
    return rows


def _byte_offset(metadata: pq.FileMetaData, group: int) -> int | None:
    """Where the pages of a row group begin in the file; None if the footer says nothing usable."""
    columns = metadata.row_group(group)
    pages = [columns.column(index).data_page_offset for index in range(columns.num_columns)]
    return min((offset for offset in pages if offset > 0), default=None)


def _columns(schema: pa.Schema, config: InputConfig) -> list[str]:
    wanted = {config.text_column, config.id_column, config.url_column, config.lang_column}
    return [name for name in schema.names if name in wanted]


def _slices(
    parquet: pq.ParquetFile, group: int, columns: list[str], *, num_rows: int, size: int
) -> Iterator[pa.Table | DataError]:
    """A row group in slices of `size` rows; from a fault on, the fault for each slice."""
    batches = parquet.iter_batches(batch_size=size, row_groups=[group], columns=columns)
    pending: list[pa.RecordBatch] = []
    num_pending = num_given = 0
    fault: DataError | None = None
    while num_given < num_rows:
        wanted = min(size, num_rows - num_given)
        while fault is None and num_pending < wanted:
            batch = _next_batch(batches)
            if isinstance(batch, DataError):
                fault = batch
            else:
                pending.append(batch)
                num_pending += batch.num_rows
        num_given += wanted
        if fault is not None:
            yield fault
            continue
        table = pa.Table.from_batches(pending)
        yield table.slice(0, wanted)
        pending = table.slice(wanted).to_batches()
        num_pending -= wanted


def _next_batch(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | DataError:
    try:
        batch = next(batches, None)
    except (ConnectionError, TimeoutError):
        raise
    except (pa.ArrowException, OSError) as error:
        return DataError(str(error))
    if batch is None:
        return DataError("the row group has fewer rows than the footer says")
    return batch


def _build_unit(
    pieces: Sequence[tuple[GroupSlice, pa.Table | DataError]],
    config: InputConfig,
    *,
    checks: Checks,
    is_last: bool,
    offsets: Mapping[int, int | None],
) -> UnitDocuments:
    tables = [schemas.DOCUMENTS.empty_table()]
    rows: list[QuarantineRow] = []
    skipped: Counter[str] = Counter()
    for part, piece in pieces:
        records = range(part.first_row, part.first_row + part.num_rows)
        if isinstance(piece, DataError):
            detail = f"row group {part.group}: {piece}"
            rows += (
                QuarantineRow(
                    record, offsets[part.group], None, "corrupt_row_group", detail, None, 0
                )
                for record in records
            )
            continue
        renamed = _as_documents(piece, config)
        checked = check_documents(renamed, records, checks=checks, byte_offsets=None)
        tables.append(checked.documents)
        rows += checked.quarantined
        skipped += checked.skipped
    return UnitDocuments(
        first_record=pieces[0][0].first_row if pieces else 0,
        num_records=sum(part.num_rows for part, _ in pieces),
        documents=pa.concat_tables(tables),
        quarantine=quarantine_table(rows, checks.path),
        skipped=dict(skipped),
        is_last=is_last,
    )


def _as_documents(table: pa.Table, config: InputConfig) -> pa.Table:
    """Columns by the names of `schemas.DOCUMENTS`, as strings; what is not there is null."""
    names = {
        "doc_id": config.id_column,
        "url": config.url_column,
        "lang": config.lang_column,
        "text": config.text_column,
    }
    columns = [
        _as_string(table[name])
        if name in table.column_names
        else pa.chunked_array([pa.nulls(table.num_rows, pa.string())])
        for name in names.values()
    ]
    return pa.table(columns, names=list(names))


def _as_string(column: pa.ChunkedArray) -> pa.ChunkedArray:
    chunks = [piece for chunk in column.chunks for piece in _addressable(chunk)]
    return pa.chunked_array([chunk.cast(pa.string()) for chunk in chunks], pa.string())


def _addressable(array: pa.Array) -> Iterator[pa.Array]:
    """Halves of halves of an array until each fits 32-bit offsets."""
    if array.nbytes <= _MAX_ARRAY_BYTES or len(array) < 2:
        yield array
        return
    middle = len(array) // 2
    yield from _addressable(array.slice(0, middle))
    yield from _addressable(array.slice(middle))
