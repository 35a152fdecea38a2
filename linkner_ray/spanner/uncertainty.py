"""Estimates of how unsure the local model is, each a pure function into [0, 1].

Letters: C classes with non-entity first, M dropout samples.
"""

import math

import torch
from torch import Tensor


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
    """Entropy of the class distribution as a share of its maximum.

    Divided by log C, so one threshold means the same for few labels and for many.

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
