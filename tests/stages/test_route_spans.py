"""Routing: who is asked about."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.config import RoutingConfig
from linkner_ray.errors import ContractError
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.route_spans import RouteSpans


def candidate(uncertainty, kind="predicted"):
    return {
        "sentence": 0,
        "start": 0,
        "end": 1,
        "label": "PER",
        "label_probs": [0.1, 0.9],
        "uncertainty": uncertainty,
        "kind": kind,
    }


def documents(*rows):
    return pa.table({"candidates": pa.array(rows, STAGE_COLUMNS["candidates"])})


def routes(stage, table):
    return apply_stage(stage, table)["routes"].to_pylist()


@pytest.fixture
def stage():
    return RouteSpans(RoutingConfig(threshold=0.1))


def test_a_candidate_at_the_threshold_is_asked_about(stage):
    # 0.1 has no exact float32; the column and the threshold must round alike.
    block = documents([candidate(0.1), candidate(0.0999), candidate(0.5)])
    assert routes(stage, block) == [["llm", "local", "llm"]]


def test_a_doubted_span_is_asked_about_whatever_its_uncertainty(stage):
    assert routes(stage, documents([candidate(0.0, "doubted")])) == [["llm"]]


def test_doubted_spans_can_be_left_out():
    stage = RouteSpans(RoutingConfig(threshold=0.1, route_doubted=False))
    block = documents([candidate(0.9, "doubted"), candidate(0.9)])
    assert routes(stage, block) == [["local", "llm"]]


def test_without_an_llm_every_route_is_local():
    stage = RouteSpans(RoutingConfig(threshold=0.0), has_llm=False)
    block = documents([candidate(0.9, "doubted"), candidate(0.9)], [])
    assert routes(stage, block) == [["local", "local"], []]


def test_threshold_zero_asks_about_everything():
    stage = RouteSpans(RoutingConfig(threshold=0.0))
    assert routes(stage, documents([candidate(0.0)])) == [["llm"]]


@given(
    rows=st.lists(st.lists(st.floats(0, 1, width=32), max_size=3), min_size=1, max_size=5),
    start=st.integers(0, 5),
    length=st.integers(0, 5),
)
def test_a_slice_of_a_block_routes_as_the_whole_block_does(rows, start, length):
    stage = RouteSpans(RoutingConfig(threshold=0.1))
    block = documents(*([candidate(value) for value in row] for row in rows))
    whole = routes(stage, block)
    assert routes(stage, block.slice(start, length)) == whole[start : start + length]


def test_a_table_of_several_chunks_routes_as_one(stage):
    first, second = documents([candidate(0.0)]), documents([], [candidate(0.5)])
    assert routes(stage, pa.concat_tables([first, second])) == [["local"], [], ["llm"]]


def test_an_empty_table_gets_the_column_too(stage):
    assert routes(stage, documents()) == []


def test_a_null_uncertainty_is_a_bug_and_says_so(stage):
    with pytest.raises(ContractError, match="1 uncertainties are null"):
        stage(documents([candidate(None)]))


def test_null_candidates_are_a_bug_and_say_so(stage):
    with pytest.raises(ContractError, match="1 documents have no candidates"):
        stage(documents(None, [candidate(0.5)]))
