"""The last table becomes the rows that are written.

Here the rule "stages add columns" ends: the output has its own columns, one row for each document
in the same order.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import OutputConfig
from linkner_ray.errors import ContractError
from linkner_ray.readers.detect_language import count_languages
from linkner_ray.runs.counters import count_unit
from linkner_ray.runs.folder import RunFolder, UnitResult
from linkner_ray.runs.row_index import document_digest
from linkner_ray.schemas import (
    CANDIDATES_OUTPUT,
    DOCUMENTS,
    OUTPUT,
    STAGE_COLUMNS,
    require_columns,
)
from linkner_ray.stages.unit import Unit


def output_schema(*, keep_text: bool, carried: Sequence[pa.Field] = ()) -> pa.Schema:
    """Schema of `entities/part-*.parquet`; columns of `input.columns` come last."""
    text = [pa.field("text", pa.string(), nullable=False)] if keep_text else []
    return pa.schema([*OUTPUT, *text, *carried])


class WriteEntities:
    """Maps the table after the last stage to output rows."""

    reads = ("doc_id", "url", "lang", "text", "sentences", "candidates", "routes", "entities")

    def __init__(self, *, keep_text: bool) -> None:
        """Take the rules of one run.

        Args:
            keep_text: Whether the text stands beside its entities.
        """
        self.keep_text = keep_text

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of `output_schema`, aligned with the documents of the table.

        Raises:
            ContractError: If a column is missing or null, or an entity's text is not the text
                between its offsets; names the document.
        """
        require_columns(table, self.reads)
        texts = table["text"].to_pylist()
        _check_texts(table["doc_id"].to_pylist(), texts, table["entities"].to_pylist())
        has_entities = pc.greater(pc.list_value_length(table["entities"]), 0)
        columns = {
            "doc_id": table["doc_id"],
            "url": table["url"],
            "lang": table["lang"],
            "doc_digest": pa.array([document_digest(text) for text in texts], pa.string()),
            "status": pc.if_else(has_entities, "entities", "empty"),
            "num_chars": pa.array(map(len, texts), pa.int64()),
            "num_sentences": pc.list_value_length(table["sentences"]),
            "num_candidates": pc.list_value_length(table["candidates"]),
            "num_routed": _count_routed(table["routes"]),
            "entities": table["entities"],
            "text": table["text"],
        }
        known = {*DOCUMENTS.names, *STAGE_COLUMNS}
        carried = [field for field in table.schema if field.name not in known]
        columns |= {field.name: table[field.name] for field in carried}
        schema = output_schema(keep_text=self.keep_text, carried=carried)
        return _conform({name: columns[name] for name in schema.names}, schema)


def write_unit(unit: Unit, output: OutputConfig) -> UnitResult:
    """Write the files of a unit that has passed all other stages.

    Raises:
        ContractError: If its records are not all accounted for.
    """
    with unit.timed("WriteEntities"):
        found = unit.documents.num_rows + unit.quarantine.num_rows + sum(unit.skipped.values())
        if found != unit.num_records:
            raise ContractError(
                f"unit {unit.name} of {unit.source}: {unit.num_records} records in, {found} "
                "accounted for"
            )
        entities = WriteEntities(keep_text=output.keep_text)(unit.documents)
        counts = count_unit(
            unit.documents, output=entities, quarantine=unit.quarantine, skipped=unit.skipped
        ) | count_languages(unit.documents)
        result = UnitResult(
            unit=unit.name,
            source=unit.source,
            first_record=unit.first_record,
            num_records=unit.num_records,
            is_last=unit.is_last,
            counts=counts,
        )
        files = RunFolder(output.path).commit(
            result,
            entities=entities,
            quarantine=unit.quarantine,
            candidates=candidates_rows(unit.documents) if output.keep_candidates else None,
        )
    return replace(
        result,
        seconds=unit.seconds,
        began=unit.began,
        workers=unit.workers,
        costs=unit.costs,
        files=[asdict(file) for file in files],
    )


def candidates_rows(table: pa.Table) -> pa.Table:
    """Rows of `candidates/part-*.parquet` from the table after the last stage.

    Raises:
        ContractError: If a column is missing, or a document id is null.
    """
    require_columns(table, CANDIDATES_OUTPUT.names)
    return _conform({name: table[name] for name in CANDIDATES_OUTPUT.names}, CANDIDATES_OUTPUT)


def _check_texts(
    doc_ids: list[str], texts: list[str], entities: list[list[dict[str, Any]]]
) -> None:
    for doc_id, text, found in zip(doc_ids, texts, entities, strict=True):
        for entity in found:
            between = text[entity["start"] : entity["end"]]
            if between != entity["text"]:
                raise ContractError(
                    f"document '{doc_id}': the entity at {entity['start']}..{entity['end']} says "
                    f"{entity['text']!r}, the text there is {between!r}"
                )


def _count_routed(routes: pa.ChunkedArray) -> pa.Array:
    """How many candidates of each document went to the LLM."""
    lists = routes.combine_chunks()
    asked = pc.filter(pc.list_parent_indices(lists), pc.equal(lists.flatten(), "llm"))
    counts = dict(zip(*(c.to_pylist() for c in pc.value_counts(asked).flatten()), strict=True))
    return pa.array([counts.get(index, 0) for index in range(len(lists))], pa.int32())


def _conform(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    """Columns as a table of a schema, with a null where none may be as an error."""
    for field in schema:
        if not field.nullable and columns[field.name].null_count:
            raise ContractError(f"output column '{field.name}' has nulls")
    return pa.table(columns, schema=schema)
