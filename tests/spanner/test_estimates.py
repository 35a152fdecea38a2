import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.checkpoint import missing_estimates, possible_estimates
from linkner_ray.spanner.estimates import (
    estimate,
    least_confidence,
    mc_dropout,
    predictive_entropy,
    recalibrated_estimate,
    vacuity,
)

READ_OFF = ("confidence", "entropy")


@pytest.mark.parametrize(
    ("loss", "dropout", "more"),
    [
        ("cross_entropy", 0.1, ("mc_dropout",)),
        ("cross_entropy", 0.0, ()),
        ("evidential", 0.0, ("evidential",)),
        ("evidential", 0.1, ("mc_dropout", "evidential")),
    ],
)
def test_evidence_needs_its_loss_and_samples_need_dropout(loss, dropout, more):
    assert possible_estimates(loss=loss, dropout=dropout) == READ_OFF + more
    missing = missing_estimates(loss=loss, dropout=dropout)
    assert set(missing) == {"mc_dropout", "evidential"} - set(more)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("confidence", [0.5, 0.0, 2 / 3]),
        # H = 0.5 ln 2 + 2 * 0.25 ln 4 = 1.5 ln 2 nats; maximum ln 3
        ("entropy", [1.5 * math.log(2) / math.log(3), 0.0, 1.0]),
        # C / S; the logits' exponentials are the evidence: 3 / (3 + 4), 3 / (3 + 9), 3 / (3 + 3)
        ("evidential", [3 / 7, 0.25, 0.5]),
    ],
)
def test_each_estimate_by_hand(name, expected):
    probs = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    logits = torch.log(torch.tensor([[2.0, 1.0, 1.0], [9.0, 1e-9, 1e-9], [1.0, 1.0, 1.0]]))
    torch.testing.assert_close(estimate(name, probs, logits), torch.tensor(expected))


def test_recalibration_moves_what_reads_probabilities_and_nothing_else():
    probs, label = np.array([[0.5, 0.25, 0.25]], dtype=np.float32), np.array([2])
    # Of its own label, though non-entity is now more probable.
    assert recalibrated_estimate("confidence", probs, label) == pytest.approx([0.75])
    for name in ("mc_dropout", "evidential"):
        assert recalibrated_estimate(name, probs, label) is None


def test_entropy_of_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        predictive_entropy(torch.ones(3, 1))


def test_samples_that_disagree_are_uncertain():
    certain = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    samples = torch.stack([certain, torch.tensor([[1.0, 0.0], [0.0, 1.0]])])
    torch.testing.assert_close(mc_dropout(samples), torch.tensor([0.0, 1.0]))


@given(st.lists(st.floats(-60, 60), min_size=2, max_size=9))
def test_every_estimate_lies_between_0_and_1(logits):
    probs = torch.tensor(logits).softmax(-1)
    for value in (
        least_confidence(probs),
        predictive_entropy(probs),
        mc_dropout(torch.stack([probs, probs.flip(0)])),
        vacuity(torch.tensor(logits).clamp(min=0)),
    ):
        assert 0 <= value.item() <= 1
