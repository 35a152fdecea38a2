import numpy as np
import pytest
import torch

from linkner_ray.spanner.calibration.dev_choices import Dev, decide_on_dev
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.spanner.span_table import SpanTable

CLASSES = ("O", "A", "B", "C")


def over_confident(count=3000, factor=3.0):
    """One span a sentence; the model reports logits `factor` times those its gold is drawn from."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(count, 4)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gold = np.array([generator.choice(4, p=row) for row in probs])
    reported = torch.log_softmax(torch.from_numpy(logits * factor), -1).exp().numpy()
    return spans_of(reported), gold


def spans_of(probs):
    count = len(probs)
    return SpanTable(
        sentence=np.arange(count),
        start_token=np.zeros(count, np.int64),
        end_token=np.ones(count, np.int64),
        probs=probs.astype(np.float32),
        uncertainty=np.zeros(count, np.float32),
    )


def dev_of(spans, gold, num_gold=None):
    return Dev(
        sentences=[["word"]] * len(gold),
        spans=spans,
        gold=gold,
        num_gold=int((gold > 0).sum()) if num_gold is None else num_gold,
    )


def test_dev_lowers_the_error_of_over_confident_entities():
    found = decide_on_dev(dev_of(*over_confident()), classes=CLASSES)
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.ece_after < 0.05 < found.ece_before
    assert found.ece_held_out < 0.05
    assert 0 < found.brier < 0.25
    assert 0 < found.candidate_recall <= 1
    assert found.recalibration is None


def test_a_dev_set_without_spans_decides_next_to_nothing():
    dev = dev_of(spans_of(np.zeros((0, 4))), np.zeros(0, np.int64), num_gold=5)
    found = decide_on_dev(dev, classes=CLASSES, novelty=NoveltyFeatures.of([]))
    assert (found.temperature, found.num_spans, found.candidate_recall) == (1.0, 0, 0.0)
    assert found.recalibration is None


def test_gold_decides_nothing_but_temperature_and_rules():
    # The spans that are listed and predicted come from probabilities alone.
    spans, gold = over_confident(400)
    shuffled = np.random.default_rng(1).permutation(gold)
    one, other = (decide_on_dev(dev_of(spans, g), classes=CLASSES) for g in (gold, shuffled))
    assert one.num_spans == other.num_spans
    assert one.temperature != other.temperature


def test_unseen_forms_that_are_wrong_more_often_are_recalibrated_less():
    # Every second entity has a form that training held; the others are right half as often.
    generator = np.random.default_rng(3)
    probs = np.tile([0.1, 0.9, 0.0, 0.0], (2000, 1))
    seen = np.arange(2000) // 2 % 2 == 0
    gold = (generator.random(2000) < np.where(seen, 0.95, 0.45)).astype(np.int64)
    dev = Dev(
        sentences=[["Paris"] if one else ["Xu"] for one in seen],
        spans=spans_of(probs),
        gold=gold,
        num_gold=int(gold.sum()),
    )
    known = NoveltyFeatures.of([(["Paris"], [(0, 1, "A")])])
    blind = decide_on_dev(dev, classes=CLASSES)
    found = decide_on_dev(dev, classes=CLASSES, novelty=known)
    assert found.recalibration.strangeness[0] < -1
    assert found.brier < blind.brier - 0.02
    assert found.ece_held_out < 0.04
