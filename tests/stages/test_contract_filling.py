"""A stage whose column is there in part does the rest, and nothing else."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage


class Route:
    """Routes by text; keeps which texts it saw."""

    reads = ("text",)
    adds = ("routes",)

    def __init__(self):
        self.seen = []

    def __call__(self, batch):
        texts = batch["text"].to_pylist()
        self.seen += texts
        column = pa.array([[text, "new"] for text in texts], STAGE_COLUMNS["routes"])
        return batch.append_column("routes", column)


def table_of(known):
    texts = [str(number) for number in range(len(known))]
    routes = [[text, "kept"] if kept else None for text, kept in zip(texts, known, strict=True)]
    table = pa.table(
        {"text": pa.array(texts, pa.string()), "routes": pa.array(routes, STAGE_COLUMNS["routes"])}
    )
    return table.replace_schema_metadata({"mark": "stays"})


@given(st.lists(st.booleans(), max_size=12))
def test_rows_that_are_null_are_done_and_all_stay_in_their_order(known):
    stage = Route()
    result = apply_stage(stage, table_of(known))
    assert result["routes"].to_pylist() == [
        [str(row), "kept" if kept else "new"] for row, kept in enumerate(known)
    ]
    assert stage.seen == [str(row) for row, kept in enumerate(known) if not kept]
    assert result.schema.metadata == {b"mark": b"stays"}
    assert result.column_names == ["text", "routes"]


def test_where_nothing_is_missing_the_stage_is_not_called():
    stage = Route()
    table = table_of([True, True])
    assert apply_stage(stage, table) is table
    assert not stage.seen


@pytest.mark.parametrize("chunks", [1, 3])
def test_columns_in_several_chunks_are_filled_too(chunks):
    table = pa.concat_tables([table_of([True, False, True])] * chunks)
    routes = apply_stage(Route(), table)["routes"].to_pylist()
    assert routes == [["0", "kept"], ["1", "new"], ["2", "kept"]] * chunks
