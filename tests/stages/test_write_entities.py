"""Output rows: what is counted, and what is refused."""

import pyarrow as pa
import pytest

from linkner_ray.errors import ContractError
from linkner_ray.runs.row_index import document_digest
from linkner_ray.schemas import CANDIDATES_OUTPUT, DOCUMENTS, OUTPUT, STAGE_COLUMNS
from linkner_ray.stages.write_entities import (
    WriteEntities,
    candidates_rows,
    output_schema,
)


def candidate():
    return {
        "sentence": 0,
        "start": 3,
        "end": 7,
        "label": "PER",
        "label_probs": [0.25, 0.75],
        "uncertainty": 0.25,
        "kind": "predicted",
    }


def entity(start, end, text):
    return {
        "start": start,
        "end": end,
        "text": text,
        "label": "PER",
        "score": 0.75,
        "uncertainty": 0.25,
        "source": "local",
        "local_label": "PER",
        "llm_label": None,
    }


def final_table(entities=None):
    """Three documents: one entity, none, and none in no text at all."""
    columns = {
        "doc_id": ["a", "b", "c"],
        "url": ["http://a", None, None],
        "lang": [None, None, "en"],
        "text": ["🎻 Élan", "plain", ""],
        "sentences": [
            [{"start": 0, "end": 7, "tokens": []}, {"start": 7, "end": 7, "tokens": []}],
            [{"start": 0, "end": 5, "tokens": []}],
            [],
        ],
        "candidates": [[candidate(), candidate(), candidate()], [candidate()], []],
        "routes": [["llm", "local", "llm"], ["local"], []],
        "answers": [[None, None, None], [None], []],
        "entities": [entities or [entity(2, 6, "Élan")], [], []],
    }
    types = {field.name: field.type for field in DOCUMENTS} | STAGE_COLUMNS
    return pa.table({name: pa.array(rows, types[name]) for name, rows in columns.items()})


def test_each_document_becomes_one_row_in_order():
    rows = WriteEntities(keep_text=False)(final_table())
    assert rows.schema.equals(OUTPUT)
    assert rows.select(["doc_id", "status", "num_chars"]).to_pylist() == [
        {"doc_id": "a", "status": "entities", "num_chars": 6},
        {"doc_id": "b", "status": "empty", "num_chars": 5},
        {"doc_id": "c", "status": "empty", "num_chars": 0},
    ]
    assert rows["num_sentences"].to_pylist() == [2, 1, 0]
    assert rows["num_candidates"].to_pylist() == [3, 1, 0]
    assert rows["num_routed"].to_pylist() == [2, 0, 0]


def test_a_slice_is_counted_as_the_whole_is():
    write = WriteEntities(keep_text=False)
    assert write(final_table().slice(1)).equals(write(final_table()).slice(1))


def test_several_chunks_and_no_rows_are_written_too():
    write = WriteEntities(keep_text=False)
    twice = write(pa.concat_tables([final_table(), final_table()]))
    assert twice["num_routed"].to_pylist() == [2, 0, 0, 2, 0, 0]
    assert write(final_table().slice(3)).equals(OUTPUT.empty_table())


def test_the_text_is_kept_on_request_only():
    rows = WriteEntities(keep_text=True)(final_table())
    assert rows.schema.equals(output_schema(keep_text=True))
    assert rows["text"].to_pylist() == ["🎻 Élan", "plain", ""]
    assert "text" not in WriteEntities(keep_text=False)(final_table()).column_names


def test_the_digest_is_that_of_the_utf8_text():
    # printf 'abc' | b2sum -l 128
    assert document_digest("abc") == "cf4ab791c62b8d2b2109c90275287816"
    rows = WriteEntities(keep_text=False)(final_table())
    assert rows["doc_digest"][1].as_py() == document_digest("plain")


def test_an_entity_that_does_not_quote_its_text_names_the_document():
    table = final_table([entity(3, 7, "Élan")])
    with pytest.raises(ContractError, match=r"document 'a'.*3\.\.7 says 'Élan'.*'lan'"):
        WriteEntities(keep_text=False)(table)


def test_a_null_document_id_is_refused():
    table = final_table().set_column(0, "doc_id", pa.array(["a", None, "c"]))
    with pytest.raises(ContractError, match="'doc_id' has nulls"):
        WriteEntities(keep_text=False)(table)


def test_a_missing_column_is_named():
    with pytest.raises(ContractError, match="'routes' is missing"):
        WriteEntities(keep_text=False)(final_table().drop_columns(["routes"]))


def test_candidates_are_written_as_the_stages_left_them():
    rows = candidates_rows(final_table())
    assert rows.schema.equals(CANDIDATES_OUTPUT)
    assert rows["routes"].to_pylist() == [["llm", "local", "llm"], ["local"], []]
