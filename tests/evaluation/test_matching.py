"""Kinds of match by hand, against the field's packages, and against trying every pairing."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nervaluate.evaluator import Evaluator
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2

from linkner_ray.corpora.scores import score_entities
from linkner_ray.evaluation.matching import (
    KINDS,
    boundary_errors,
    match_scores,
    matches_by_label,
)

LABELS = ("LOC", "PER")
LENGTH = 8


def flat_sets():
    """Entities over tokens of a short sentence, none overlapping another."""

    def of(cuts):
        entities, position = set(), 0
        for gap, width, label in cuts:
            start, end = position + gap, position + gap + width
            if end > LENGTH:
                break
            entities.add((start, end, label))
            position = end
        return entities

    piece = st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(LABELS))
    return st.lists(piece, max_size=4).map(of)


def test_by_hand():
    gold = [{(0, 4, "PER"), (9, 14, "LOC"), (20, 25, "LOC")}]
    found = [{(0, 4, "LOC"), (9, 13, "LOC"), (30, 31, "PER")}]
    scores = match_scores(gold, found)
    assert {kind: scores[kind].credit for kind in KINDS} == {
        "strict": 0,
        "boundaries": 1,  # (0, 4) under another label
        "label": 1,  # (9, 13) overlaps a LOC
        "partial": 1.5,  # one with the right boundaries, one that overlaps
    }
    assert scores["partial"].precision == scores["partial"].recall == pytest.approx(0.5)
    assert scores["boundaries"].f1 == pytest.approx(1 / 3)
    by_label = matches_by_label(gold, found)
    assert list(by_label) == ["LOC", "PER"]
    assert by_label["PER"]["strict"].f1 == by_label["PER"]["label"].f1 == 0
    # The PER was found, though it was called LOC; of two LOC none has its boundaries.
    assert by_label["PER"]["boundaries"].recall == 1
    assert by_label["LOC"]["boundaries"].recall == 0
    assert by_label["LOC"]["label"].recall == 0.5
    assert boundary_errors(gold[0], found[0]) == [((9, 14, "LOC"), (9, 13, "LOC"))]


def test_an_entity_has_one_partner():
    whole, halves = [{(0, 10, "PER")}], [{(0, 4, "PER"), (5, 10, "PER")}]
    scores = match_scores(whole, halves)
    assert scores["label"].credit == 1
    assert scores["partial"].credit == 0.5
    assert len(boundary_errors(whole[0], halves[0])) == 1


def test_many_entities_that_overlap_in_a_chain_are_paired_at_once():
    gold = [{(10 * place, 10 * place + 12, "PER") for place in range(20_000)}]
    found = [{(10 * place + 5, 10 * place + 15, "PER") for place in range(20_000)}]
    scores = match_scores(gold, found)
    assert scores["label"].credit == 2 * scores["partial"].credit == 20_000


def test_nothing_is_zero():
    assert {kind: one.f1 for kind, one in match_scores([set()], [set()]).items()} == dict.fromkeys(
        KINDS, 0.0
    )


def nested_sets():
    """A few entities over the same tokens that may lie across or within one another."""
    places = st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 5), st.sampled_from(LABELS))
    return st.sets(places.map(lambda p: (p[0], p[0] + p[1], p[2])), max_size=5)


@given(st.one_of(flat_sets(), nested_sets()), flat_sets())
@settings(max_examples=300, deadline=None)
def test_as_many_pairs_as_there_can_be(gold, found):
    def best(matches):
        small, large = sorted((sorted(gold), sorted(found)), key=len)
        return max(
            sum(matches(one, other) for one, other in zip(small, order, strict=False))
            for order in permutations(large, len(small))
        )

    def overlap(one, other):
        return one[0] < other[1] and other[0] < one[1]

    scores = match_scores([gold], [found])
    assert scores["label"].credit == best(lambda a, b: overlap(a, b) and a[2] == b[2])
    assert scores["partial"].credit == best(
        lambda a, b: 1 if a[:2] == b[:2] else 0.5 * overlap(a, b)
    )
    assert scores["strict"].credit <= scores["boundaries"].credit <= scores["partial"].credit


def tags(entities):
    row = ["O"] * LENGTH
    for start, end, label in entities:
        row[start:end] = [f"I-{label}"] * (end - start)
        row[start] = f"B-{label}"
    return row


@given(st.lists(st.tuples(flat_sets(), flat_sets()), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_strict_is_that_of_seqeval_nervaluate_and_our_own_scores(pairs):
    gold, found = ([pair[side] for pair in pairs] for side in (0, 1))
    strict = match_scores(gold, found)["strict"]
    assert strict.f1 == pytest.approx(score_entities(gold, found).micro.f1)
    if not any(gold) or not any(found):
        return
    true, predicted = [list(map(tags, side)) for side in (gold, found)]
    _, _, f1, _ = precision_recall_fscore_support(
        true, predicted, average="micro", scheme=IOB2, zero_division=0
    )
    assert strict.f1 == pytest.approx(f1)
    theirs = Evaluator(true, predicted, tags=list(LABELS), loader="list").evaluate()
    overall = theirs["overall"]
    assert strict.f1 == pytest.approx(overall["strict"].f1)
    boundaries = match_scores(gold, found)["boundaries"]
    assert boundaries.f1 == pytest.approx(overall["exact"].f1)
