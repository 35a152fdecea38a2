"""Estimates of how unsure the local model is, each in [0, 1].

Letters: N spans, C classes with non-entity first, M dropout samples.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from linkner_ray.config import Uncertainty
from linkner_ray.spanner.losses import evidence_of

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


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
    """An estimate of predicted spans from their recalibrated probabilities.

    `confidence` is 1 less the probability of the span's own label, which need no longer be the most
    probable class.

    Args:
        name: Which.
        probs: Recalibrated. Shape (N, C).
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


def least_confidence(probs: Tensor) -> Tensor:
    """Probability that is not on the most probable class.

    Args:
        probs: The last axis sums to 1. Shape (..., C).

    Returns:
        0 for a one-hot row, 1 - 1/C for a uniform row. Shape (...).

    Reference:
        Zhang et al. (2024), LinkNER, "confidence".
    """
    return (1.0 - probs.amax(dim=-1)).clamp(0.0, 1.0)


def predictive_entropy(probs: Tensor) -> Tensor:
    """Entropy of the class distribution divided by its maximum, log C.

    So one threshold means the same for few labels and for many.

    Args:
        probs: The last axis sums to 1. Shape (..., C) with C >= 2.

    Returns:
        0 for a one-hot row, 1 for a uniform row. Shape (...).

    Raises:
        ValueError: If there are fewer than two classes.

    Reference:
        Zhang et al. (2024), LinkNER, "entropy", there in nats.
    """
    num_classes = probs.shape[-1]
    if num_classes < 2:
        raise ValueError(f"entropy needs at least 2 classes, got shape {tuple(probs.shape)}")
    entropy = torch.special.entr(probs).sum(dim=-1) / math.log(num_classes)
    return entropy.clamp(0.0, 1.0)


def mc_dropout(sample_probs: Tensor) -> Tensor:
    """Entropy of the distribution averaged over dropout samples, as a share of its maximum.

    Counts both what every sample is unsure about and what the samples disagree about.

    Args:
        sample_probs: The last axis sums to 1. Shape (M, ..., C).

    Returns:
        Shape (...).

    Reference:
        Gal and Ghahramani (2016), Dropout as a Bayesian Approximation.
    """
    return predictive_entropy(sample_probs.mean(dim=0))


def vacuity(evidence: Tensor) -> Tensor:
    """Share of a Dirichlet's strength that is prior, not evidence: C / S.

    Args:
        evidence: Non-negative. Shape (..., C).

    Returns:
        1 without any evidence, towards 0 with much of it. Shape (...).

    Reference:
        Zhang et al. (2023), E-NER; Sensoy et al. (2018).
    """
    num_classes = evidence.shape[-1]
    return num_classes / (evidence + 1.0).sum(dim=-1)
