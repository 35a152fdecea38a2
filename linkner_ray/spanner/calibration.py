"""Temperature scaling on the dev set, and how far probabilities can be believed.

Letters: N spans, C classes with non-entity first.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What turns a model's log-probabilities into probabilities to believe."""

    temperature: float = 1.0
    """Log-probabilities are divided by it and normalised again."""

    num_spans: int = 0
    """Dev spans it was fitted on; 0 for a model that was never calibrated."""

    ece_before: float | None = None
    """Expected calibration error of predicted dev entities at temperature 1."""

    ece_after: float | None = None


def apply_temperature(log_probs: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at a temperature. Shape (..., C) in and out."""
    return torch.log_softmax(log_probs / temperature, dim=-1)


def calibrate(log_probs: FloatArray, gold: NDArray[np.int64]) -> Calibration:
    """Fit a temperature on spans and measure what it does to predicted entities.

    Args:
        log_probs: Of spans chosen without looking at gold. Shape (N, C).
        gold: Class of each span. Shape (N,).
    """
    temperature = fit_temperature(log_probs, gold)
    return Calibration(
        temperature=temperature,
        num_spans=len(gold),
        ece_before=_entity_error(log_probs, gold, 1.0),
        ece_after=_entity_error(log_probs, gold, temperature),
    )


def fit_temperature(log_probs: FloatArray, gold: NDArray[np.int64]) -> float:
    """Temperature of the least negative log-likelihood.

    The likelihood is convex in the inverse temperature, so the sign of its slope brackets the
    optimum.

    Args:
        log_probs: Shape (N, C).
        gold: Class of each span. Shape (N,).

    Returns:
        Between 0.05 and 20; 1 if there is nothing to fit on.

    Reference:
        Guo et al. (2017), On Calibration of Modern Neural Networks.
    """
    if not len(gold):
        return 1.0
    of_gold = log_probs[np.arange(len(gold)), gold]
    low, high = 0.05, 20.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        expected = (_softmax(log_probs * middle) * log_probs).sum(axis=1)
        if float((expected - of_gold).mean()) > 0:
            high = middle
        else:
            low = middle
    return 1.0 / (low * high) ** 0.5


def expected_calibration_error(
    confidence: FloatArray, correct: NDArray[np.bool_], *, num_bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over bins of equal mass.

    Args:
        confidence: In [0, 1]. Shape (N,).
        correct: Shape (N,).
        num_bins: Bins, of equally many spans but for rounding.

    Returns:
        In [0, 1]; 0 for no spans.
    """
    if not len(confidence):
        return 0.0
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    gaps = [abs(confidence[b].mean() - correct[b].mean()) * len(b) for b in bins]
    return float(sum(gaps) / len(order))


def _entity_error(log_probs: FloatArray, gold: NDArray[np.int64], temperature: float) -> float:
    """Expected calibration error of the spans whose most probable class is an entity."""
    probs = _softmax(log_probs / temperature)
    predicted = probs.argmax(axis=1)
    entities = predicted != 0
    return expected_calibration_error(
        probs[entities].max(axis=1) if entities.any() else np.zeros(0),
        predicted[entities] == gold[entities],
    )


def _softmax(values: FloatArray) -> FloatArray:
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
