import numpy as np
import pytest
import torch

from linkner_ray.spanner.calibration.temperature import (
    apply_temperature,
    fit_temperature,
)


def over_confident(count=4000, factor=3.0):
    """Labels drawn from a softmax whose logits the model reports `factor` times too large."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(count, 4)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gold = np.array([generator.choice(4, p=row) for row in probs])
    reported = torch.log_softmax(torch.from_numpy(logits * factor), -1).numpy()
    return reported, gold


def test_temperature_finds_the_factor_of_over_confidence():
    assert fit_temperature(*over_confident(factor=3.0)) == pytest.approx(3.0, rel=0.05)
    assert fit_temperature(*over_confident(factor=0.5)) == pytest.approx(0.5, rel=0.05)


def test_temperature_of_two_spans_by_hand():
    # Log-odds ln 9; right in 3 of 4: the best log-odds is ln 3, half of it, so T = 2.
    log_probs = np.log(np.array([[0.9, 0.1]] * 4))
    assert fit_temperature(log_probs, np.array([0, 0, 0, 1])) == pytest.approx(2.0, rel=1e-6)


def test_nothing_to_fit_leaves_probabilities_alone():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=np.int64)) == 1.0


def test_perfect_dev_answers_keep_the_temperature_in_bounds():
    log_probs = np.log(np.array([[0.9, 0.1], [0.1, 0.9]]))
    assert 0.05 <= fit_temperature(log_probs, np.array([0, 1])) < 0.06


def test_temperature_applies_to_log_probabilities():
    # At T = 2 the odds 9:1 become 3:1.
    log_probs = torch.log(torch.tensor([0.9, 0.1]))
    probs = apply_temperature(log_probs, 2.0).exp()
    torch.testing.assert_close(probs, torch.tensor([0.75, 0.25]))
