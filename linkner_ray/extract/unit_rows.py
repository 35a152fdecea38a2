"""A unit as a row of a dataset, which is how it travels between processes.

Its documents are an Arrow table inside one cell, so Ray may merge or split blocks as it likes, and
the unit still arrives whole. Packing copies the table once, unpacking copies nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from linkner_ray.stages.unit import Unit

_COUNTS = pa.map_(pa.string(), pa.int64())
_TIMES = pa.map_(pa.string(), pa.float64())
_TABLE = pa.large_binary()

UNIT_ROW = pa.schema(
    [
        ("name", pa.string()),
        ("source", pa.string()),
        ("first_record", pa.int64()),
        ("num_records", pa.int64()),
        ("is_last", pa.bool_()),
        ("max_asked", pa.int64()),
        ("skipped", _COUNTS),
        ("costs", _COUNTS),
        ("seconds", _TIMES),
        ("began", _TIMES),
        ("workers", _COUNTS),
        ("documents", _TABLE),
        ("quarantine", _TABLE),
    ]
)


def rows_of(units: Iterable[Unit]) -> pa.Table:
    """A row of `UNIT_ROW` for each unit."""
    rows = [
        pa.table([_cell(getattr(unit, field.name), field.type) for field in UNIT_ROW], UNIT_ROW)
        for unit in units
    ]
    return pa.concat_tables([*rows, UNIT_ROW.empty_table()])


def units_in(rows: pa.Table) -> Iterator[Unit]:
    """The units of such rows; their tables read from the memory of the rows."""
    for index in range(rows.num_rows):
        yield Unit(**{field.name: _value(rows[field.name][index]) for field in UNIT_ROW})


def _cell(value: object, kind: pa.DataType) -> pa.Array:
    if kind == _TABLE:
        content = _pack(value)
        ends = pa.py_buffer(np.array([0, content.size], np.int64))
        return pa.Array.from_buffers(kind, 1, [None, ends, content])
    return pa.array([list(value.items()) if isinstance(value, dict) else value], kind)


def _value(cell: pa.Scalar) -> Any:  # noqa: ANN401 - by the column
    if cell.type == _TABLE:
        with pa.ipc.open_stream(cell.as_buffer()) as reader:
            return reader.read_all()
    value = cell.as_py()
    return dict(value) if pa.types.is_map(cell.type) else value


def _pack(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
