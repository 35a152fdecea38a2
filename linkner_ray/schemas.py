"""Every table that passes between stages or is written, in one place.

A row is a document. Offsets are half-open code points of the document's `text`. Probability vectors
follow `LabelSet.classes`: non-entity first.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.errors import ContractError

SCHEMA_VERSION = 5
"""Goes up with any change of the output; a run refuses to continue one of another version."""

TOKEN = pa.struct([("start", pa.int32()), ("end", pa.int32())])

SENTENCE = pa.struct(
    [
        ("start", pa.int32()),  # where it begins
        ("end", pa.int32()),  # where it ends
        ("tokens", pa.list_(TOKEN)),  # `start` and `end` of each word
    ]
)

CANDIDATE = pa.struct(
    [
        ("sentence", pa.int32()),  # index into `sentences`
        ("start", pa.int32()),  # where it begins
        ("end", pa.int32()),  # where it ends
        ("label", pa.string()),  # most probable label that is not non-entity
        ("label_probs", pa.list_(pa.float32())),  # of every class, calibrated
        ("uncertainty", pa.float32()),  # in [0, 1], higher is less sure
        ("kind", pa.string()),  # "predicted" or "near_miss"
    ]
)

ANSWER = pa.struct(
    [
        ("verdict", pa.string()),  # "label", "non_entity", "unreadable", "failed"
        ("label", pa.string()),  # null unless the verdict is "label"
        ("probs", pa.list_(pa.float32())),  # null where the backend gives none
        ("key", pa.string()),  # name of the request
        ("source", pa.string()),  # "llm"; not asked now, until written: "cache", "previous"
        ("prompt_tokens", pa.int32()),  # null where the backend does not say
    ]
)

ENTITY = pa.struct(
    [
        ("start", pa.int32()),  # where it begins
        ("end", pa.int32()),  # where it ends
        ("text", pa.string()),  # of the document from `start` up to `end`
        ("label", pa.string()),  # its type
        ("score", pa.float32()),  # probability of `label`
        ("uncertainty", pa.float32()),  # of the local model
        # Whose word: "local", "llm", or "same_name": the LLM's, on the same words elsewhere in the
        # document.
        ("source", pa.string()),
        ("local_label", pa.string()),  # of the local model; null for a near miss
        ("llm_label", pa.string()),  # "O" for non-entity; null without an answer that was read
    ]
)

DOCUMENTS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("lang", pa.string()),
        pa.field("text", pa.string(), nullable=False),
    ]
)
"""What the readers give; later stages add columns."""

ROUTES = ("local", "llm", "audit", "over_budget", "same_name")
"""local: certain enough, or not to be asked about; llm: the LLM decides; audit: the LLM is asked,
and only measured by it; over_budget: uncertain, but the budget was spent, so it stays local;
same_name: uncertain, and the answer about the same words of the document decides."""

ASKED_ROUTES = ("llm", "audit")
"""Routes with a question of their own."""

LLM_ROUTES = ("llm", "same_name")
"""Routes on which the LLM decides."""

STAGE_COLUMNS: dict[str, pa.DataType] = {
    "sentences": pa.list_(SENTENCE),  # as the text was split
    "subwords": pa.list_(pa.list_(pa.int32())),  # vocabulary ids of each token
    "candidates": pa.list_(CANDIDATE),  # spans that may be asked about
    # Of each candidate: local, llm, audit, over_budget or same_name.
    "routes": pa.list_(pa.string()),
    # On each candidate; with same_name that on another of the same words; null for none.
    "answers": pa.list_(ANSWER),
    "entities": pa.list_(ENTITY),
    "known_answers": pa.list_(ANSWER),  # of another run about the same text; null: none
}

OUTPUT = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),  # as the input says, or `path:record`
        pa.field("url", pa.string()),  # as the input says, if it does
        pa.field("lang", pa.string()),  # as the input says, if it does
        pa.field("doc_digest", pa.string(), nullable=False),  # of the text, 32 digits
        pa.field("status", pa.string(), nullable=False),  # "entities" or "empty"
        pa.field("num_chars", pa.int64(), nullable=False),  # code points of the text
        pa.field("num_sentences", pa.int32(), nullable=False),  # as they were split
        pa.field("num_candidates", pa.int32(), nullable=False),  # predicted and near misses
        pa.field("num_routed", pa.int32(), nullable=False),  # candidates that were sent to the LLM
        pa.field("entities", pa.list_(ENTITY), nullable=False),  # see below
    ]
)
"""`entities/part-*.parquet`; with `output.keep_text` a column `text` follows, then those of
`input.columns`."""

CANDIDATES_OUTPUT = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),  # as in `entities/`
        *(pa.field(n, STAGE_COLUMNS[n]) for n in ("sentences", "candidates", "routes", "answers")),
    ]
)
"""`candidates/part-*.parquet`, written with `output.keep_candidates`."""

GOLD = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())])

PREDICTIONS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),  # of the set and the sentence
        pa.field("text", pa.string(), nullable=False),  # its words, one blank between them
        pa.field("gold", pa.list_(GOLD), nullable=False),  # `start`, `end`, `label` by annotation
        pa.field("local", pa.list_(ENTITY), nullable=False),  # of the local model alone
        pa.field("entities", pa.list_(ENTITY), nullable=False),  # of both
        *(pa.field(name, STAGE_COLUMNS[name]) for name in ("candidates", "routes", "answers")),
    ]
)
"""`predictions/NAME.parquet` of an evaluation, a row a sentence."""

QUARANTINE = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # of the shard
        # Row or record index in the file. Null: not known of a document with `doc_id`; without
        # one, the row stands for the file from here on.
        pa.field("record", pa.int64()),
        pa.field("byte_offset", pa.int64()),  # where known
        pa.field("doc_id", pa.string()),  # where known
        pa.field("reason", pa.string(), nullable=False),  # a short word to count by
        pa.field("detail", pa.string(), nullable=False),  # the reason in a sentence
        pa.field("raw", pa.string()),  # the value, cut to a limit, unprintable parts escaped
        pa.field("num_chars", pa.int64(), nullable=False),  # characters lost with it, 0 if unknown
    ]
)
"""`_quarantine/part-*.parquet`."""


def require_columns(table: pa.Table, names: Sequence[str]) -> None:
    """Check that the columns a stage reads are there and have the declared types.

    Raises:
        ContractError: Naming the first column that is missing or of another type.
    """
    for name in names:
        if name not in table.column_names:
            raise ContractError(f"column '{name}' is missing; table has {table.column_names}")
        declared = STAGE_COLUMNS.get(name)
        if declared is None and name in DOCUMENTS.names:
            declared = DOCUMENTS.field(name).type
        found = table.schema.field(name).type
        if declared is not None and not found.equals(declared):
            raise ContractError(f"column '{name}' has type {found}, declared is {declared}")


def list_offsets(lists: pa.ListArray) -> NDArray[np.int64]:
    """Where each list begins among `lists.flatten()`, then the number of all values.

    Those of Arrow itself begin elsewhere than at 0 in a slice, and may skip values at a null.
    """
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    return offsets_of(lengths.to_numpy(zero_copy_only=False))


def offsets_of(lengths: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Where lists of these lengths begin among their values, then the number of all values."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def make_lists(
    values: pa.Array, offsets: NDArray[np.int64], kind: pa.DataType | None = None
) -> pa.ListArray:
    """Lists of values, the first from `offsets[0]` up to `offsets[1]`.

    Args:
        values: Of all lists, one after the other.
        offsets: As `list_offsets` or `offsets_of` give them.
        kind: Type of the column; by default that of the values decides.
    """
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=kind)


def with_field(lists: pa.ListArray, name: str, values: pa.Array) -> pa.ListArray:
    """Lists of structs with other values in one field; a null struct stays null.

    Args:
        lists: The lists.
        name: Of the field.
        values: One for each struct of all lists, of the field's type.
    """
    flat = lists.flatten()
    columns = [values if field.name == name else flat.field(field.name) for field in flat.type]
    mask = flat.is_null() if flat.null_count else None
    structs = pa.StructArray.from_arrays(columns, fields=list(flat.type), mask=mask)
    return make_lists(structs, list_offsets(lists), lists.type)


def join_tables(tables: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """Tables of any size as tables of at least so many rows, but for the last."""
    held: list[pa.Table] = []
    num_held = 0
    for table in tables:
        held.append(table)
        num_held += table.num_rows
        if num_held >= num_rows:
            yield pa.concat_tables(held)
            held, num_held = [], 0
    if held:
        yield pa.concat_tables(held)
