import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.uncertainty import (
    least_confidence,
    mc_dropout,
    predictive_entropy,
    vacuity,
)

KNOWN = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])


def test_least_confidence_of_known_rows():
    torch.testing.assert_close(least_confidence(KNOWN), torch.tensor([0.5, 0.0, 2 / 3]))


def test_entropy_of_known_rows():
    # H = 0.5 ln 2 + 2 * 0.25 ln 4 = 1.5 ln 2 nats; maximum ln 3
    expected = torch.tensor([1.5 * math.log(2) / math.log(3), 0.0, 1.0])
    torch.testing.assert_close(predictive_entropy(KNOWN), expected)


def test_entropy_of_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        predictive_entropy(torch.ones(3, 1))


def test_samples_that_disagree_are_uncertain():
    certain = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    samples = torch.stack([certain, torch.tensor([[1.0, 0.0], [0.0, 1.0]])])
    torch.testing.assert_close(mc_dropout(samples), torch.tensor([0.0, 1.0]))


def test_vacuity_of_known_rows():
    # C / S: 3 / 3 without evidence, 3 / (3 + 9) with 9
    evidence = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    torch.testing.assert_close(vacuity(evidence), torch.tensor([1.0, 0.25]))


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
