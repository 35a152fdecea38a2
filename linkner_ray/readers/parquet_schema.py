"""Columns of a Parquet file: whether they fit config, and as columns of documents."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from linkner_ray.config import InputConfig
from linkner_ray.readers.sources import partition_columns

_MAX_ARRAY_BYTES = 2**31 - 1
"""Bytes that 32-bit offsets can reach."""


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """Why no row of a file can be read."""

    reason: str
    detail: str


def find_schema_fault(schema: pa.Schema, config: InputConfig) -> SchemaFault | None:
    """Compare the columns of a file with those that config names.

    Only the text column must be there. Ids may be integers; all others are strings.
    """
    names = {
        "text_column": config.text_column,
        "id_column": config.id_column,
        "url_column": config.url_column,
        "lang_column": config.lang_column,
    }
    for key, name in names.items():
        if schema.names.count(name) > 1:
            detail = (
                f"column '{name}' is there {schema.names.count(name)} times; rename all but one"
            )
            return SchemaFault("duplicate_column", f"{detail}, or set input.{key}")
    column = config.text_column
    if column not in schema.names:
        close = difflib.get_close_matches(column, schema.names, 1)
        nearest = f"; nearest is '{close[0]}'" if close else ""
        detail = f"no column '{column}', found {schema.names}{nearest}; set input.text_column"
        return SchemaFault("missing_column", detail)
    for key, name in names.items():
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


def wanted_columns(schema: pa.Schema, config: InputConfig) -> list[str]:
    """Columns of a file that are read."""
    wanted = {config.text_column, config.id_column, config.url_column, config.lang_column}
    return [name for name in schema.names if name in wanted]


def as_documents(table: pa.Table, config: InputConfig, *, path: str) -> pa.Table:
    """Columns by the names of `schemas.DOCUMENTS`, as strings.

    A column that the file lacks is the same in all rows: what its path says, or null.
    """
    partitions = partition_columns(path, config)
    names = {
        "doc_id": config.id_column,
        "url": config.url_column,
        "lang": config.lang_column,
        "text": config.text_column,
    }
    columns = [
        _as_string(table[name])
        if name in table.column_names
        else pa.chunked_array([pa.repeat(pa.scalar(partitions.get(name), pa.string()), len(table))])
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
