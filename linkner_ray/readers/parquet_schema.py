"""Columns of a Parquet file: whether they fit config, and as columns of documents."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from linkner_ray.config import InputConfig
from linkner_ray.readers.sources import folder_values, lang_column

if TYPE_CHECKING:
    from pyarrow.compute import Expression

WANTED = "linkner:is_wanted"
"""Column that says whether `input.filter` lets a row pass."""


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """Why no row of a file can be read."""

    reason: str
    detail: str


def find_schema_fault(schema: pa.Schema, config: InputConfig) -> SchemaFault | None:
    """Compare the columns of a file with those that config names.

    The text column must be there, and those of `input.columns` and `input.filter`. Ids may be
    integers, url, language and text are strings.
    """
    of_documents = {f"{key}_column": name for key, name in _names(schema, config).items()}
    named = [(key.replace("doc_id", "id"), name) for key, name in of_documents.items()]
    named += [("columns", name) for name in config.columns]
    named += [("filter", name) for name in config.filter_columns]
    for key, name in named:
        if schema.names.count(name) > 1:
            detail = f"column '{name}' is there {schema.names.count(name)} times"
            return SchemaFault(
                "duplicate_column", f"{detail}; rename all but one, or set input.{key}"
            )
        if name not in schema.names:
            if key in ("text_column", "columns", "filter"):
                return _missing_column(schema, key, str(name))
        elif key.endswith("_column"):
            kind = schema.field(name).type
            if not _is_text(kind) and not (key == "id_column" and pa.types.is_integer(kind)):
                return _wrong_type(schema, key, str(name))
    return _filter_fault(schema, config)


def _missing_column(schema: pa.Schema, key: str, column: str) -> SchemaFault:
    close = difflib.get_close_matches(column, schema.names, 1)
    nearest = f"; nearest is '{close[0]}'" if close else ""
    detail = f"no column '{column}', found {schema.names}{nearest}; set input.{key}"
    return SchemaFault("missing_column", detail)


def _wrong_type(schema: pa.Schema, key: str, column: str) -> SchemaFault:
    strings = [field.name for field in schema if _is_text(field.type)]
    found = schema.field(column).type
    detail = f"column '{column}' has type {found}, columns of strings: {strings}; set input.{key}"
    return SchemaFault("wrong_type", detail)


def _filter_fault(schema: pa.Schema, config: InputConfig) -> SchemaFault | None:
    """Try the filter on no rows, which tells whether its values go with the columns."""
    fields = [schema.field(name) for name in config.filter_columns]
    try:
        expression = filter_expression(config)
        if expression is not None:
            pa.schema(fields).empty_table().filter(expression)
    except (pa.ArrowException, TypeError) as error:
        types = ", ".join(f"'{field.name}' is {field.type}" for field in fields)
        detail = f"{types}, which does not go with its value: {error}; set input.filter"
        return SchemaFault("wrong_type", detail)
    return None


def filter_expression(config: InputConfig) -> "Expression | None":
    """`input.filter` as Arrow takes it; None where every row passes."""
    if not config.filter:
        return None
    from pyarrow.parquet import filters_to_expression

    return filters_to_expression([list(all_of) for all_of in config.filter])


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


def _names(schema: pa.Schema, config: InputConfig) -> dict[str, str | None]:
    """Columns of documents, with the name that each has in the file if it is there."""
    strings = [field.name for field in schema if _is_text(field.type)]
    return {
        "text": config.text_column,
        "doc_id": config.id_column,
        "url": config.url_column,
        "lang": lang_column(strings, config),
    }


def wanted_columns(schema: pa.Schema, config: InputConfig) -> list[str]:
    """Columns of a file that are read."""
    wanted = {*_names(schema, config).values(), *config.columns, *config.filter_columns}
    return [name for name in schema.names if name in wanted]


def as_documents(table: pa.Table, config: InputConfig, *, path: str) -> pa.Table:
    """Columns of documents as strings, WANTED, and the columns that are carried along.

    A column of documents that the file lacks is the same in all rows: what its path says, or null.
    """
    of_folders = folder_values(path, config)
    columns = {
        key: table[name].cast(pa.string())
        if name in table.column_names
        else pa.repeat(pa.scalar(of_folders.get(key), pa.string()), len(table))
        for key, name in _names(table.schema, config).items()
    }
    columns[WANTED] = pa.array(_passing(table, config), pa.bool_())
    return pa.table(columns | {name: table[name] for name in config.columns})


def _passing(table: pa.Table, config: InputConfig) -> Sequence[bool]:
    """Which rows the filter lets pass."""
    expression = filter_expression(config)
    if expression is None:
        return [True] * len(table)
    numbered = table.select(config.filter_columns).append_column(
        WANTED, pa.array(range(len(table)), pa.int64())
    )
    passing = set(numbered.filter(expression)[WANTED].to_pylist())
    return [row in passing for row in range(len(table))]
