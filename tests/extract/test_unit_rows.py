"""A unit comes out of a row as it went in."""

import pyarrow as pa
import pytest

from linkner_ray.extract.unit_rows import UNIT_ROW, rows_of, units_in
from linkner_ray.schemas import DOCUMENTS, QUARANTINE, STAGE_COLUMNS
from linkner_ray.stages.unit import Unit


def unit(number, *, num_documents=3):
    ids = [f"d{number}-{i}" for i in range(num_documents)]
    columns = {
        "doc_id": ids,
        "url": [None] * len(ids),
        "lang": ids,
        "text": ["\U0001f600"] * len(ids),
    }
    documents = pa.table(columns, schema=DOCUMENTS).append_column(
        "routes", pa.array([["llm", "local"]] * len(ids), STAGE_COLUMNS["routes"])
    )
    row = {"path": "a", "record": 7, "reason": "null_text", "detail": "", "num_chars": 0}
    return Unit(
        name=f"abc-{number}",
        source="s3://crawl/a.parquet",
        first_record=number,
        num_records=4,
        is_last=False,
        max_asked=None if number else 0,
        skipped={"warcinfo": 2},
        costs={"questions_asked": 2**40},
        seconds={"ReadDocuments": 0.1, "SplitSentences": 1e-9},
        began={"ReadDocuments": 1.8e9},
        workers={"ReadDocuments": 2**47},
        documents=documents,
        quarantine=pa.Table.from_pylist([row], schema=QUARANTINE),
    )


@pytest.mark.parametrize("chunks", [1, 2])
def test_every_field_arrives_as_it_was_sent(chunks):
    sent = [unit(0), unit(1, num_documents=0), unit(2)]
    sent[2].documents = pa.concat_tables([sent[2].documents.slice(1)] * chunks)
    rows = rows_of(sent)
    assert rows.schema == UNIT_ROW
    assert list(units_in(rows)) == sent
    assert list(units_in(rows.slice(1, 1))) == sent[1:2]


def test_no_units_are_no_rows_of_the_same_schema():
    rows = rows_of([])
    assert (rows.num_rows, rows.schema) == (0, UNIT_ROW)
    assert list(units_in(rows)) == []


def test_a_table_is_read_from_the_memory_of_its_row():
    before = pa.total_allocated_bytes()
    rows = rows_of([unit(0, num_documents=100_000)])
    packed = pa.total_allocated_bytes() - before
    [arrived] = units_in(rows)
    assert packed > 1_000_000
    assert pa.total_allocated_bytes() - before < packed + 10_000
    assert arrived.documents.num_rows == 100_000
