"""Estimates of uncertainty by name: which a checkpoint can give, and where each is read.

Letters: N spans, C classes with non-entity first.
"""

from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from linkner_ray.config import Uncertainty
from linkner_ray.spanner.losses import evidence_of
from linkner_ray.spanner.uncertainty import (
    least_confidence,
    predictive_entropy,
    vacuity,
)

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


def missing_estimates(*, loss: str, dropout: float) -> dict[Uncertainty, str]:
    """Estimates that a checkpoint cannot give, each with why."""
    found: dict[Uncertainty, str] = {}
    if loss != "evidential":
        found["evidential"] = f"the checkpoint was trained with loss {loss}"
    if dropout == 0:
        found["mc_dropout"] = "the checkpoint has no dropout"
    return found


def possible_estimates(*, loss: str, dropout: float) -> tuple[Uncertainty, ...]:
    """Estimates that a checkpoint can give."""
    missing = missing_estimates(loss=loss, dropout=dropout)
    return tuple(name for name in get_args(Uncertainty) if name not in missing)


def estimate(name: Uncertainty, probs: Tensor, logits: Tensor) -> Tensor:
    """An estimate that one pass of the model gives, so any but `mc_dropout`.

    Args:
        name: Which.
        probs: Shape (N, C).
        logits: Before softmax and temperature. Shape (N, C).

    Returns:
        Shape (N,).
    """
    match name:
        case "entropy":
            return predictive_entropy(probs)
        case "evidential":
            return vacuity(evidence_of(logits))
        case _:
            return least_confidence(probs)


def recalibrated_estimate(
    name: Uncertainty, probs: FloatArray, label: IntArray
) -> FloatArray | None:
    """An estimate of predicted spans from what their probabilities deserve to be.

    `confidence` is what a span's own label lacks of 1, also where that is no longer the most
    probable class.

    Args:
        name: Which.
        probs: As believed. Shape (N, C).
        label: Class of each span's label. Shape (N,).

    Returns:
        Shape (N,); None for an estimate that reads no probabilities.
    """
    match name:
        case "confidence":
            return 1.0 - probs[np.arange(len(probs)), label]
        case "entropy":
            return predictive_entropy(torch.from_numpy(probs)).numpy()
        case _:
            return None
