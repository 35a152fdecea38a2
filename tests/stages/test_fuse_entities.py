"""Fusion: rules by hand, overlaps by properties."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.errors import ContractError
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities

CLASSES = ("O", "PER", "ORG")
STAGE = FuseEntities(CLASSES)
TEXT = "Ada met Élan 🎻 Corp in Paris today"


def candidate(start, end, probs, kind="predicted", uncertainty=0.25):
    label = CLASSES[max((1, 2), key=lambda index: probs[index])]
    return {
        "sentence": 0,
        "start": start,
        "end": end,
        "label": label,
        "label_probs": probs,
        "uncertainty": uncertainty,
        "kind": kind,
    }


def answer(verdict, label=None, probs=None, source="llm"):
    return {
        "verdict": verdict,
        "label": label,
        "probs": probs,
        "key": "k1:00",
        "source": source,
        "prompt_tokens": 7,
    }


def documents(*rows, asked_route="llm"):
    """Each row is a list of (candidate, answer); an answer of None is route local."""
    return pa.table(
        {
            "text": pa.array([TEXT] * len(rows), pa.string()),
            "candidates": pa.array(
                [[c for c, _ in row] for row in rows], STAGE_COLUMNS["candidates"]
            ),
            "routes": pa.array(
                [["local" if a is None else asked_route for _, a in row] for row in rows],
                STAGE_COLUMNS["routes"],
            ),
            "answers": pa.array([[a for _, a in row] for row in rows], STAGE_COLUMNS["answers"]),
        }
    )


def fuse(*rows):
    return apply_stage(STAGE, documents(*rows))["entities"].to_pylist()


def only(entities):
    [[entity]] = entities
    return entity


def test_a_certain_candidate_keeps_its_local_label():
    assert only(fuse([(candidate(0, 3, [0.25, 0.75, 0.0]), None)])) == {
        "start": 0,
        "end": 3,
        "text": "Ada",
        "label": "PER",
        "score": 0.75,
        "uncertainty": 0.25,
        "source": "local",
        "local_label": "PER",
        "llm_label": None,
    }


def test_offsets_count_code_points():
    entity = only(fuse([(candidate(8, 19, [0.0, 0.25, 0.75]), None)]))
    assert entity["text"] == "Élan 🎻 Corp"


def predicted(*probs):
    return candidate(0, 3, list(probs))


def near_miss(*probs):
    return candidate(0, 3, list(probs), "near_miss")


ORG_NAMED = answer("label", "ORG", source="cache")
"""A choice without probabilities."""

PER_SURE = answer("label", "PER", [0.0, 1.0, 0.0])
UNLIKELY = answer("non_entity", None, [0.4, 0.3, 0.3])


@pytest.mark.parametrize(
    ("local", "said", "label", "score"),
    [
        # the LLM's label and probability; of a choice the local one
        (predicted(0.25, 0.5, 0.25), answer("label", "ORG", [0.125, 0.25, 0.625]),
         "ORG", 0.625),
        (predicted(0.25, 0.5, 0.25), ORG_NAMED, "ORG", 0.25),
        (predicted(0.1, 0.8, 0.1), UNLIKELY, None, None),
        (predicted(0.25, 0.75, 0.0), answer("unreadable"), "PER", 0.75),
        (predicted(0.25, 0.75, 0.0), answer("failed"), "PER", 0.75),
        # a near miss enters by a label alone, however sure the local model is
        (near_miss(0.75, 0.25, 0.0), PER_SURE, "PER", 1.0),
        (near_miss(0.01, 0.98, 0.01), UNLIKELY, None, None),
        (near_miss(0.01, 0.98, 0.01), answer("unreadable"), None, None),
        (near_miss(0.01, 0.98, 0.01), answer("failed"), None, None),
        (near_miss(0.01, 0.98, 0.01), None, None, None),
    ],
)  # fmt: skip
def test_what_becomes_of_a_candidate(local, said, label, score):
    [found] = fuse([(local, said)])
    assert [entity["label"] for entity in found] == ([label] if label else [])
    for entity in found:
        assert entity["score"] == score
        is_read = said["verdict"] in {"label", "non_entity"}
        assert entity["source"] == (said["source"] if is_read else "local")
        assert entity["llm_label"] == ((said["label"] or "O") if is_read else None)
        assert entity["local_label"] == (local["label"] if local["kind"] == "predicted" else None)


def test_the_answer_to_an_audit_changes_nothing():
    spans = [candidate(0, 3, [0.0, 1.0, 0.0]), candidate(8, 12, [0.0, 0.0, 1.0])]
    said = [answer("label", "ORG", [0.0, 0.0, 1.0]), answer("non_entity", None, [1.0, 0.0, 0.0])]
    audited = documents(list(zip(spans, said, strict=True)), asked_route="audit")
    local = documents([(span, None) for span in spans])
    assert STAGE(audited)["entities"].equals(STAGE(local)["entities"])


@pytest.mark.parametrize(
    ("local", "said", "found"),
    [
        ((0.4, 0.5, 0.1), ("label", "ORG", [0.0, 0.25, 0.75]), ("ORG", 0.75, "same_name", "ORG")),
        ((0.25, 0.5, 0.25), ("label", "ORG"), ("ORG", 0.25, "same_name", "ORG")),
        ((0.4, 0.5, 0.1), ("non_entity", None, [0.75, 0.25, 0.0]), None),
        ((0.25, 0.5, 0.25), ("failed",), ("PER", 0.5, "local", None)),
    ],
)
def test_the_answer_about_the_same_words_decides_and_the_source_says_so(local, said, found):
    table = documents([(candidate(0, 3, local), answer(*said))], asked_route="same_name")
    names = ("label", "score", "source", "llm_label")
    entities = [tuple(e[name] for name in names) for e in STAGE(table)["entities"].to_pylist()[0]]
    assert entities == ([found] if found else [])


def test_what_the_budget_left_local_keeps_its_label_but_does_not_count_as_certain():
    left = candidate(0, 3, [0.4, 0.5, 0.1])
    rival = candidate(0, 7, [0.6, 0.4, 0.0], "near_miss")
    said = [None, answer("label", "PER", [0.1, 0.9, 0.0])]
    table = documents([(left, said[0]), (rival, said[1])])
    table = table.set_column(
        2, "routes", pa.array([["over_budget", "llm"]], STAGE_COLUMNS["routes"])
    )
    assert only(STAGE(table)["entities"].to_pylist())["end"] == 7
    alone = documents([(left, None)])
    alone = alone.set_column(2, "routes", pa.array([["over_budget"]], STAGE_COLUMNS["routes"]))
    entity = only(STAGE(alone)["entities"].to_pylist())
    assert (entity["label"], entity["source"], entity["llm_label"]) == ("PER", "local", None)


def test_a_certain_local_entity_wins_over_a_better_scored_llm_one():
    certain = (candidate(0, 3, [0.25, 0.75, 0.0]), None)
    boundary = (
        candidate(0, 7, [0.9, 0.1, 0.0], "near_miss"),
        answer("label", "PER", [0.0, 1.0, 0.0]),
    )
    assert only(fuse([boundary, certain]))["end"] == 3


def test_boundary_alternatives_compete_by_score():
    short = (candidate(8, 12, [0.5, 0.0, 0.5]), answer("label", "ORG", [0.25, 0.0, 0.75]))
    long = (
        candidate(8, 19, [0.75, 0.0, 0.25], "near_miss"),
        answer("label", "ORG", [0.125, 0.0, 0.875]),
    )
    assert only(fuse([short, long]))["text"] == "Élan 🎻 Corp"


def test_an_unreadable_answer_does_not_make_a_candidate_certain():
    unread = (candidate(0, 3, [0.5, 0.5, 0.0]), answer("unreadable"))
    rival = (candidate(0, 7, [0.9, 0.1, 0.0], "near_miss"), answer("label", "PER", [0.0, 1.0, 0.0]))
    assert only(fuse([unread, rival]))["end"] == 7


def test_a_slice_of_a_block_fuses_as_the_whole_block_does():
    block = documents(
        [(candidate(0, 3, [0.25, 0.75, 0.0]), None)],
        [],
        [(candidate(23, 28, [0.5, 0.25, 0.25]), answer("label", "ORG", [0.0, 0.0, 1.0]))],
    )
    whole = apply_stage(STAGE, block)["entities"].to_pylist()
    assert [len(found) for found in whole] == [1, 0, 1]
    assert apply_stage(STAGE, block.slice(1, 2))["entities"].to_pylist() == whole[1:]
    assert apply_stage(STAGE, block.slice(3))["entities"].to_pylist() == []


judged = st.builds(
    lambda start, width, probs, kind, reply: (
        candidate(start, min(start + width, len(TEXT)), probs, kind),
        reply,
    ),
    st.integers(0, len(TEXT) - 1),
    st.integers(1, 6),
    st.sampled_from([[0.25, 0.5, 0.25], [0.125, 0.25, 0.625], [0.0, 1.0, 0.0]]),
    st.sampled_from(["predicted", "near_miss"]),
    st.sampled_from(
        [
            None,
            answer("label", "ORG", [0.25, 0.25, 0.5]),
            answer("label", "PER"),
            answer("non_entity", None, [1.0, 0.0, 0.0]),
            answer("unreadable"),
        ]
    ),
)


@given(st.lists(judged, max_size=8))
def test_entities_never_overlap_and_quote_the_text(row):
    [entities] = fuse(row)
    assert all(a["end"] <= b["start"] for a, b in pairwise(entities))
    assert all(TEXT[e["start"] : e["end"]] == e["text"] for e in entities)


@given(st.lists(judged, max_size=6, unique_by=repr), st.randoms())
def test_the_order_of_candidates_does_not_matter(row, rng):
    shuffled = list(row)
    rng.shuffle(shuffled)
    spans = [[(e["start"], e["end"], e["label"]) for e in d] for d in fuse(row)]
    assert [[(e["start"], e["end"], e["label"]) for e in d] for d in fuse(shuffled)] == spans


@pytest.mark.parametrize("span", [(0, 99), (-1, 3), (3, 3)])
def test_a_span_outside_its_text_is_a_bug(span):
    with pytest.raises(ContractError, match=r"lies outside a text of \d+ characters"):
        fuse([(candidate(*span, [0.0, 1.0, 0.0]), None)])


def test_an_unknown_label_is_a_bug():
    with pytest.raises(ContractError, match="label 'GPE' is not one of"):
        fuse([(candidate(0, 3, [0.0, 1.0, 0.0]), answer("label", "GPE"))])


def test_a_routed_candidate_without_an_answer_is_a_bug():
    block = documents([(candidate(0, 3, [0.0, 1.0, 0.0]), None)])
    routes = pa.array([["llm"]], STAGE_COLUMNS["routes"])
    block = block.set_column(2, "routes", routes)
    with pytest.raises(ContractError, match="verdict 'None'"):
        STAGE(block)


def test_columns_that_do_not_align_are_a_bug():
    block = documents([(candidate(0, 3, [0.0, 1.0, 0.0]), None)])
    block = block.set_column(2, "routes", pa.array([[]], STAGE_COLUMNS["routes"]))
    with pytest.raises(ContractError, match="'routes' does not align"):
        STAGE(block)
