"""Fusion: rules by hand, overlaps by properties."""

from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.config import FusionConfig
from linkner_ray.errors import ContractError
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities

CLASSES = ("O", "PER", "ORG")
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


def documents(*rows, text=TEXT):
    """Each row is a list of (candidate, answer); an answer of None is route local."""
    return pa.table(
        {
            "text": pa.array([text] * len(rows), pa.string()),
            "candidates": pa.array(
                [[c for c, _ in row] for row in rows], STAGE_COLUMNS["candidates"]
            ),
            "routes": pa.array(
                [["local" if a is None else "llm" for _, a in row] for row in rows],
                STAGE_COLUMNS["routes"],
            ),
            "answers": pa.array([[a for _, a in row] for row in rows], STAGE_COLUMNS["answers"]),
        }
    )


def fuse(*rows, strategy="override", text=TEXT):
    stage = FuseEntities(FusionConfig(strategy=strategy), CLASSES)
    return apply_stage(stage, documents(*rows, text=text))["entities"].to_pylist()


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


def test_override_takes_the_llms_label_and_probability():
    asked = (candidate(0, 3, [0.25, 0.5, 0.25]), answer("label", "ORG", [0.125, 0.25, 0.625]))
    entity = only(fuse([asked]))
    assert (entity["label"], entity["score"], entity["source"]) == ("ORG", 0.625, "llm")
    assert (entity["local_label"], entity["llm_label"]) == ("PER", "ORG")


def test_a_choice_without_probabilities_has_the_local_one_as_score():
    asked = (candidate(0, 3, [0.25, 0.5, 0.25]), answer("label", "ORG", source="ledger"))
    for strategy in ("override", "product"):
        entity = only(fuse([asked], strategy=strategy))
        assert (entity["label"], entity["score"], entity["source"]) == ("ORG", 0.25, "ledger")


def test_product_takes_the_label_both_find_likely():
    # products: O 0.25*0.25 = 1/16, PER 0.5*0.25 = 2/16, ORG 0.25*0.5 = 2/16 -> a tie, the LLM's
    # word decides; normalised: 2/5.
    asked = (candidate(0, 3, [0.25, 0.5, 0.25]), answer("label", "ORG", [0.25, 0.25, 0.5]))
    entity = only(fuse([asked], strategy="product"))
    assert (entity["label"], entity["llm_label"]) == ("ORG", "ORG")
    assert entity["score"] == pytest.approx(0.4)


def test_product_can_keep_the_local_label_against_the_llm():
    # products: O 0, PER 0.75*0.375 = 0.28125, ORG 0.25*0.625 = 0.15625; share 0.28125/0.4375
    asked = (candidate(0, 3, [0.0, 0.75, 0.25]), answer("label", "ORG", [0.0, 0.375, 0.625]))
    entity = only(fuse([asked], strategy="product"))
    assert (entity["label"], entity["llm_label"], entity["source"]) == ("PER", "ORG", "llm")
    assert entity["score"] == pytest.approx(0.28125 / 0.4375)


def test_product_drops_the_span_if_non_entity_wins():
    # products: O 0.75*0.4375 = 0.328, PER 0.125*0.5 = 0.0625
    asked = (candidate(0, 3, [0.75, 0.125, 0.125]), answer("label", "PER", [0.4375, 0.5, 0.0625]))
    assert fuse([asked], strategy="product") == [[]]


def test_product_of_distributions_without_common_ground_is_the_llms():
    asked = (candidate(0, 3, [0.0, 1.0, 0.0]), answer("label", "ORG", [0.0, 0.0, 1.0]))
    entity = only(fuse([asked], strategy="product"))
    assert (entity["label"], entity["score"]) == ("ORG", 1.0)


@pytest.mark.parametrize("kind", ["predicted", "doubted"])
@pytest.mark.parametrize("strategy", ["override", "product"])
def test_the_verdict_non_entity_drops_the_span(kind, strategy):
    asked = (candidate(0, 3, [0.1, 0.8, 0.1], kind), answer("non_entity", None, [0.6, 0.3, 0.1]))
    assert fuse([asked], strategy=strategy) == [[]]


@pytest.mark.parametrize("verdict", ["unreadable", "failed"])
def test_no_answer_leaves_a_predicted_candidate_its_local_label(verdict):
    entity = only(fuse([(candidate(0, 3, [0.25, 0.75, 0.0]), answer(verdict))]))
    assert (entity["label"], entity["source"], entity["llm_label"]) == ("PER", "local", None)


@pytest.mark.parametrize("asked", [None, answer("unreadable"), answer("failed")])
def test_a_doubted_span_does_not_enter_without_a_verdict(asked):
    assert fuse([(candidate(0, 3, [0.5, 0.4, 0.1], "doubted"), asked)]) == [[]]


def test_a_doubted_span_enters_by_a_verdict_and_has_no_local_label():
    asked = (candidate(0, 3, [0.75, 0.25, 0.0], "doubted"), answer("label", "PER", [0.0, 1.0, 0.0]))
    entity = only(fuse([asked]))
    assert (entity["label"], entity["local_label"], entity["llm_label"]) == ("PER", None, "PER")


def test_a_certain_local_entity_wins_over_a_better_scored_llm_one():
    certain = (candidate(0, 3, [0.25, 0.75, 0.0]), None)
    boundary = (
        candidate(0, 7, [0.9, 0.1, 0.0], "doubted"),
        answer("label", "PER", [0.0, 1.0, 0.0]),
    )
    assert only(fuse([boundary, certain]))["end"] == 3


def test_boundary_alternatives_compete_by_score():
    short = (candidate(8, 12, [0.5, 0.0, 0.5]), answer("label", "ORG", [0.25, 0.0, 0.75]))
    long = (
        candidate(8, 19, [0.75, 0.0, 0.25], "doubted"),
        answer("label", "ORG", [0.125, 0.0, 0.875]),
    )
    assert only(fuse([short, long]))["text"] == "Élan 🎻 Corp"


def test_an_unreadable_answer_does_not_make_a_candidate_certain():
    unread = (candidate(0, 3, [0.5, 0.5, 0.0]), answer("unreadable"))
    rival = (candidate(0, 7, [0.9, 0.1, 0.0], "doubted"), answer("label", "PER", [0.0, 1.0, 0.0]))
    assert only(fuse([unread, rival]))["end"] == 7


def test_a_slice_of_a_block_fuses_as_the_whole_block_does():
    block = documents(
        [(candidate(0, 3, [0.25, 0.75, 0.0]), None)],
        [],
        [(candidate(23, 28, [0.5, 0.25, 0.25]), answer("label", "ORG", [0.0, 0.0, 1.0]))],
    )
    stage = FuseEntities(FusionConfig(), CLASSES)
    whole = apply_stage(stage, block)["entities"].to_pylist()
    assert [len(found) for found in whole] == [1, 0, 1]
    assert apply_stage(stage, block.slice(1, 2))["entities"].to_pylist() == whole[1:]
    assert apply_stage(stage, block.slice(3))["entities"].to_pylist() == []


judged = st.builds(
    lambda start, width, probs, kind, reply: (
        candidate(start, min(start + width, len(TEXT)), probs, kind),
        reply,
    ),
    st.integers(0, len(TEXT) - 1),
    st.integers(1, 6),
    st.sampled_from([[0.25, 0.5, 0.25], [0.125, 0.25, 0.625], [0.0, 1.0, 0.0]]),
    st.sampled_from(["predicted", "doubted"]),
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


@given(st.lists(judged, max_size=8), st.sampled_from(["override", "product"]))
def test_entities_never_overlap_and_quote_the_text(row, strategy):
    [entities] = fuse(row, strategy=strategy)
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
        FuseEntities(FusionConfig(), CLASSES)(block)


def test_columns_that_do_not_align_are_a_bug():
    block = documents([(candidate(0, 3, [0.0, 1.0, 0.0]), None)])
    block = block.set_column(2, "routes", pa.array([[]], STAGE_COLUMNS["routes"]))
    with pytest.raises(ContractError, match="'routes' does not align"):
        FuseEntities(FusionConfig(), CLASSES)(block)
