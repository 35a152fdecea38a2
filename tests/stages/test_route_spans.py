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

WORDS = "".join(map(chr, range(0x4E00, 0x4E40)))
"""A text of as many names as it has characters."""


def candidate(uncertainty, kind="predicted", *, label="PER"):
    return {
        "sentence": 0,
        "label": label,
        "label_probs": [0.1, 0.9],
        "uncertainty": uncertainty,
        "kind": kind,
    }


def documents(*rows, first=0, text=WORDS):
    """Each candidate is a character of its document's text, in their order."""
    placed = [
        row and [{**one, "start": start, "end": start + 1} for start, one in enumerate(row)]
        for row in rows
    ]
    return pa.table(
        {
            "doc_id": [f"d{first + index}" for index in range(len(rows))],
            "text": [text] * len(rows),
            "candidates": pa.array(placed, STAGE_COLUMNS["candidates"]),
        },
        schema=pa.schema(
            [
                pa.field("doc_id", pa.string(), nullable=False),
                pa.field("text", pa.string(), nullable=False),
                ("candidates", STAGE_COLUMNS["candidates"]),
            ]
        ),
    )


def routes(stage, table):
    return apply_stage(stage, table)["routes"].to_pylist()


@pytest.fixture
def stage():
    return RouteSpans(RoutingConfig(threshold=0.1))


def test_a_candidate_at_the_threshold_is_asked_about(stage):
    # 0.1 has no exact float32; the column and the threshold must round alike.
    block = documents([candidate(0.1), candidate(0.0999), candidate(0.5)])
    assert routes(stage, block) == [["llm", "local", "llm"]]


def test_a_near_miss_is_asked_about_from_the_same_threshold(stage):
    block = documents([candidate(0.0, "near_miss"), candidate(0.1, "near_miss")])
    assert routes(stage, block) == [["local", "llm"]]


def test_near_misses_can_be_left_out():
    stage = RouteSpans(RoutingConfig(threshold=0.1, route_near_misses=False))
    block = documents([candidate(0.9, "near_miss"), candidate(0.9)])
    assert routes(stage, block) == [["local", "llm"]]


def test_labels_can_be_left_out():
    config = RoutingConfig(threshold=0.1, never_ask=("PER",), audit_share=1.0)
    block = documents([candidate(0.9), candidate(0.9, label="ORG"), candidate(0.0)])
    assert routes(RouteSpans(config), block) == [["local", "llm", "local"]]


def test_a_budget_goes_to_the_most_uncertain_and_the_rest_is_marked():
    # half of five, rounded down, is two
    stage = RouteSpans(RoutingConfig(threshold=0.1, budget="50%"))
    block = documents(
        [candidate(0.2), candidate(0.9)], [], [candidate(0.05), candidate(0.5), candidate(0.3)]
    )
    assert routes(stage, block) == [["over_budget", "llm"], [], ["local", "llm", "over_budget"]]


def test_of_equally_uncertain_candidates_the_earlier_is_asked_about():
    stage = RouteSpans(RoutingConfig(budget="50%"))
    block = documents([candidate(0.5), candidate(0.5)], [candidate(0.5), candidate(0.5)])
    assert routes(stage, block) == [["llm", "llm"], ["over_budget", "over_budget"]]


@pytest.mark.parametrize(
    ("per_name", "expected"),
    [
        (1, ["same_name", "llm", "same_name", "llm", "local"]),
        (2, ["llm", "llm", "same_name", "llm", "local"]),
        (None, ["llm", "llm", "llm", "llm", "local"]),
    ],
)
def test_of_the_same_words_of_a_document_the_most_uncertain_are_asked_about(per_name, expected):
    stage = RouteSpans(RoutingConfig(threshold=0.1, per_name=per_name))
    row = [candidate(value) for value in (0.5, 0.9, 0.5, 0.2, 0.05)]
    row[2]["kind"] = "near_miss"
    assert routes(stage, documents(row, row, text="aaaba")) == [expected, expected]


def test_words_are_the_same_across_white_space_and_not_across_case(stage):
    block = documents([candidate(0.5)] * 3)
    spans = pa.array(
        [[{**candidate(0.5), "start": s, "end": s + 3} for s in (0, 4, 8)]],
        STAGE_COLUMNS["candidates"],
    )
    block = block.set_column(2, "candidates", spans)
    block = block.set_column(1, "text", pa.array(["A b A\nb a b"]))
    assert routes(stage, block) == [["llm", "same_name", "llm"]]


@pytest.mark.parametrize(
    ("per_name", "budget", "expected"),
    [
        (1, "40%", ["llm", "same_name", "llm", "same_name", "over_budget"]),
        (1, "20%", ["llm", "same_name", "over_budget", "over_budget", "over_budget"]),
        (2, "60%", ["llm", "llm", "llm", "same_name", "over_budget"]),
        (1, "0%", ["over_budget"] * 5),
    ],
)
def test_a_budget_is_not_spent_on_the_same_words(per_name, budget, expected):
    stage = RouteSpans(RoutingConfig(threshold=0.1, budget=budget, per_name=per_name))
    row = [candidate(value) for value in (0.9, 0.8, 0.7, 0.6, 0.5)]
    assert routes(stage, documents(row, text="aabbc")) == [expected]


def test_a_number_of_calls_is_what_the_unit_was_given():
    config = RoutingConfig(budget="1000 calls")
    block = documents([candidate(0.4), candidate(0.5), candidate(0.6)])
    assert routes(RouteSpans(config, max_asked=2), block) == [["over_budget", "llm", "llm"]]
    assert routes(RouteSpans(config, max_asked=0), block) == [["over_budget"] * 3]
    with pytest.raises(ContractError, match="the unit has no part of it"):
        RouteSpans(config)(block)


amounts = st.lists(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=6), max_size=25
)


@given(units=amounts, percent=st.integers(0, 100), audit_share=st.sampled_from([0.0, 0.3, 1.0]))
def test_no_layout_of_units_asks_more_than_the_budget(units, percent, audit_share):
    config = RoutingConfig(threshold=0.2, budget=f"{percent}%", audit_share=audit_share)
    asked = 0
    for index, unit in enumerate(units):
        found = [candidate(u, "predicted" if p else "near_miss") for u, p in unit]
        [given_routes] = routes(RouteSpans(config), documents(found, first=index, text="abcabc"))
        asked += sum(route in ("llm", "audit") for route in given_routes)
        told = [u for (u, _), route in zip(unit, given_routes, strict=True) if route == "llm"]
        left = [u for (u, _), r in zip(unit, given_routes, strict=True) if r == "over_budget"]
        assert min(told, default=1) >= max(left, default=0)
    assert asked <= sum(map(len, units)) * percent / 100 + 1e-9


def test_an_audit_asks_a_share_of_the_certain_predicted_ones():
    config = RoutingConfig(threshold=0.5, audit_share=0.25)
    rows = [[candidate(0.1)] * 20] * 100
    found = [r for row in routes(RouteSpans(config), documents(*rows)) for r in row]
    # 2,000 hashes below 1/4: 500, standard deviation 19
    assert 420 < found.count("audit") < 580
    assert found.count("audit") + found.count("local") == 2000
    certain_near_miss = documents([candidate(0.1, "near_miss")] * 50)
    assert set(routes(RouteSpans(config), certain_near_miss)[0]) == {"local"}


def test_who_is_audited_depends_on_the_span_and_the_seed_alone():
    def audited(tables, seed):
        stage = RouteSpans(RoutingConfig(audit_share=0.5, seed=seed))
        return {
            (doc_id, place)
            for table in tables
            for doc_id, row in zip(table["doc_id"].to_pylist(), routes(stage, table), strict=True)
            for place, route in enumerate(row)
            if route == "audit"
        }

    rows = [[candidate(0.0)] * 5] * 8
    whole = documents(*rows)
    parts = [whole.slice(5), whole.slice(0, 2), whole.slice(2, 3)]
    assert audited([whole], 1) == audited(parts, 1) != audited([whole], 2)


def test_an_audit_comes_before_a_tight_budget():
    # a quarter of four is one
    config = RoutingConfig(threshold=0.5, budget="25%", audit_share=1.0)
    block = documents([candidate(0.9), candidate(0.8), candidate(0.1), candidate(0.9, "near_miss")])
    assert routes(RouteSpans(config), block) == [
        ["over_budget", "over_budget", "audit", "over_budget"]
    ]


def test_without_an_llm_every_route_is_local():
    config = RoutingConfig(threshold=0.0, budget="10 calls", audit_share=1.0)
    stage = RouteSpans(config, has_llm=False)
    block = documents([candidate(0.9, "near_miss"), candidate(0.9)], [])
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
    block = documents(*([candidate(value) for value in row] for row in rows), text="aba")
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
