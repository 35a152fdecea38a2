import math

import numpy as np
import pytest
import torch

from linkner_ray.spanner.estimates import (
    estimate,
    missing_estimates,
    possible_estimates,
    recalibrated_estimate,
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


def test_each_estimate_by_hand():
    probs = torch.tensor([[0.5, 0.25, 0.25]])
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0]])
    # Entropy is 0.5 log 2 + 2 * 0.25 log 4 = 1.5 log 2.
    expected = {
        "confidence": 0.5,
        "entropy": 1.5 * math.log(2) / math.log(3),
        # C / S; the logits' exponentials are the evidence: 3 / (3 + 4)
        "evidential": 3 / 7,
    }
    for name, value in expected.items():
        assert estimate(name, probs, logits).item() == pytest.approx(value, abs=1e-6)


def test_recalibration_moves_what_reads_probabilities_and_nothing_else():
    probs, label = np.array([[0.5, 0.25, 0.25]], dtype=np.float32), np.array([2])
    # Of its own label, though non-entity is now more probable.
    assert recalibrated_estimate("confidence", probs, label) == pytest.approx([0.75])
    for name in ("mc_dropout", "evidential"):
        assert recalibrated_estimate(name, probs, label) is None
