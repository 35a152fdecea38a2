import random

import pytest
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2

from linkner_ray.corpora.scores import (
    Counts,
    document_counts,
    score_entities,
)

LABELS = ["LOC", "ORG", "PER"]


def test_scores_worked_by_hand():
    gold = [{(0, 4, "PER"), (9, 14, "LOC")}, {(0, 3, "ORG"), (5, 8, "ORG")}, set()]
    predicted = [{(0, 4, "PER"), (9, 15, "LOC")}, {(0, 3, "ORG"), (5, 8, "LOC")}, {(1, 2, "PER")}]
    scores = score_entities(gold, predicted)
    # LOC: the gold one is missed by one code point; predicted are that one and (5, 8)
    assert scores.by_label["LOC"] == Counts(true_positives=0, false_positives=2, false_negatives=1)
    assert scores.by_label["ORG"] == Counts(true_positives=1, false_negatives=1)
    assert scores.by_label["PER"] == Counts(true_positives=1, false_positives=1)
    # micro: 2 right of 5 predicted and 4 gold; F1 = 2*2 / (5 + 4)
    micro = scores.micro
    assert (micro.true_positives, micro.num_predicted, micro.support) == (2, 5, 4)
    assert (micro.precision, micro.recall, micro.f1) == (2 / 5, 1 / 2, 4 / 9)
    # F1 of LOC, ORG, PER: 0, 2/3, 2/3
    assert scores.macro.precision == pytest.approx((0 + 1 + 1 / 2) / 3)
    assert scores.macro.recall == pytest.approx((0 + 1 / 2 + 1) / 3)
    assert scores.macro.f1 == pytest.approx(4 / 9)


def test_counts_of_documents_sum_to_those_of_the_set():
    gold = [{(0, 4, "PER"), (9, 14, "LOC")}, {(0, 3, "ORG")}, set()]
    predicted = [{(0, 4, "PER"), (9, 15, "LOC")}, set(), {(1, 2, "PER")}]
    counts = document_counts(gold, predicted)
    assert counts.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]
    micro = score_entities(gold, predicted).micro
    expected = [micro.true_positives, micro.false_positives, micro.false_negatives]
    assert counts.sum(axis=0).tolist() == expected
    assert document_counts([], []).shape == (0, 3)


def test_an_entity_given_twice_counts_once():
    right, wrong = (0, 4, "PER"), (5, 6, "PER")
    scores = score_entities([[right, right]], [[right, right, wrong, wrong]])
    assert scores.micro == Counts(true_positives=1, false_positives=1)


def test_nested_entities_are_scored_each():
    nested = [(0, 12, "ORG"), (8, 12, "LOC"), (8, 12, "ORG")]
    assert score_entities([nested], [nested[:2]]).micro == Counts(
        true_positives=2, false_negatives=1
    )


@pytest.mark.parametrize("documents", [[], [[]], [[], []]])
def test_nothing_to_find_and_nothing_found_is_zero(documents):
    scores = score_entities(documents, documents)
    assert scores.by_label == {}
    assert (scores.micro.precision, scores.micro.recall, scores.micro.f1) == (0, 0, 0)
    assert (scores.macro.precision, scores.macro.recall, scores.macro.f1) == (0, 0, 0)


def test_documents_must_be_as_many():
    with pytest.raises(ValueError, match="gold has 2 documents and predicted 1"):
        score_entities([[], []], [[]])


def flat_entities(rng, num_tokens):
    """Random entities that do not overlap, in token positions, at least one."""
    entities, start = [], 0
    while start < num_tokens:
        end = min(num_tokens, start + rng.randint(1, 3))
        if rng.random() < 0.4:
            entities.append((start, end, rng.choice(LABELS)))
        start = end
    return entities or [(0, 1, rng.choice(LABELS))]


def noisy(rng, entities, num_tokens):
    """Most entities as they are, some lost, some with another label or end, some new."""
    if rng.random() < 0.3:
        return flat_entities(rng, num_tokens)
    kept = [entity for entity in entities if rng.random() < 0.8]
    return [
        (start, end - (end - start > 1 and rng.random() < 0.3), rng.choice([label, label, "PER"]))
        for start, end, label in kept
    ]


def iob2_tags(entities, num_tokens):
    """Written out here on its own, so that an error of the library cannot hide itself."""
    tags = ["O"] * num_tokens
    for start, end, label in entities:
        tags[start:end] = [f"B-{label}"] + [f"I-{label}"] * (end - start - 1)
    return tags


def random_documents(seed):
    """Lengths, gold and predicted entities of a few documents; neither side is without entities.

    seqeval divides by zero where a side has none at all.
    """
    rng = random.Random(seed)
    lengths = [rng.randint(1, 15) for _ in range(8)]
    gold = [flat_entities(rng, length) for length in lengths]
    predicted = [noisy(rng, *pair) for pair in zip(gold, lengths, strict=True)]
    predicted[0] = predicted[0] or flat_entities(rng, lengths[0])
    return lengths, gold, predicted


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("seed", range(25))
def test_scores_are_those_of_seqeval_in_strict_mode(seed):
    lengths, gold, predicted = random_documents(seed)
    scores = score_entities(gold, predicted)
    tags = [
        [iob2_tags(*pair) for pair in zip(side, lengths, strict=True)] for side in (gold, predicted)
    ]
    options = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    for average, ours in (("micro", scores.micro), ("macro", scores.macro)):
        theirs = precision_recall_fscore_support(*tags, average=average, **options)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs[:3])
    by_label = zip(*precision_recall_fscore_support(*tags, average=None, **options), strict=True)
    for counts, theirs in zip(scores.by_label.values(), by_label, strict=True):
        ours = (counts.precision, counts.recall, counts.f1, counts.support)
        assert ours == pytest.approx(theirs)
