"""What the LLM's answers say about a class, learned where gold is known.

Letters: N candidates, C classes with non-entity first.
"""

import numpy as np

from linkner_ray.linking.judged import FloatArray, IntArray

PROB_FLOOR = 1e-6
"""Least probability of a class: no answer alone rules a class out."""

PRIOR_WEIGHT = 10.0
"""Answers that the assumption about a class weighs as much as, in how often it is told right."""

HALF_TRUST = 20.0
"""Answers after which half of what they show is believed; with fewer, less."""


def without_prior(log_probs: FloatArray, log_prior: FloatArray) -> FloatArray:
    """Take out of probabilities what an LLM says whatever it is asked.

    Args:
        log_probs: Of the LLM. Shape (N, C).
        log_prior: As it answers on average. Shape (C,).

    Returns:
        Logarithms of distributions. Shape (N, C).

    Reference:
        Zhou et al. (2024), Batch Calibration.
    """
    rest = log_probs - log_prior
    peak = rest.max(axis=1, keepdims=True)
    scaled: FloatArray = rest - peak - np.log(np.exp(rest - peak).sum(axis=1, keepdims=True))
    return scaled


def log_mean(log_probs: FloatArray) -> FloatArray:
    """Logarithm of the mean of distributions. Shape (C,)."""
    mean: FloatArray = np.log(np.exp(log_probs).mean(axis=0))
    return mean


def log_floored(probs: FloatArray) -> FloatArray:
    """Logarithms of probabilities, none below `PROB_FLOOR`."""
    logs: FloatArray = np.log(np.maximum(probs, PROB_FLOOR))
    return logs


def confusion_of(said: IntArray, gold: IntArray, num_classes: int) -> FloatArray:
    """How often each class is called each class.

    What few answers show is mixed with an assumption that asks for less: an LLM that is right with
    one probability whatever the class, and otherwise says what it says on average.

    Args:
        said: Class that the LLM named. Shape (N,).
        gold: Right class. Shape (N,).
        num_classes: C.

    Returns:
        Each row sums to 1. Shape (C of gold, C said).
    """
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (gold, said), 1.0)
    total = counts.sum()
    average = (counts.sum(axis=0) + 1.0) / (total + num_classes)
    by_chance = float(counts.sum(axis=1) @ average) / max(1.0, total)
    right = (np.trace(counts) + 1.0) / (total + 2.0)
    beyond_chance = min(max((right - by_chance) / max(1.0 - by_chance, 1e-9), 0.0), 1.0)
    trust = beyond_chance * total / (total + HALF_TRUST)
    assumed = trust * np.eye(num_classes) + (1.0 - trust) * average
    rates: FloatArray = (counts + PRIOR_WEIGHT * assumed) / (
        counts.sum(axis=1, keepdims=True) + PRIOR_WEIGHT
    )
    return rates
