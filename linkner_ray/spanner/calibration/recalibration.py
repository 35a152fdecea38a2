"""How likely each candidate's label is right, given its probability and what training held.

Letters: N candidates, C classes with non-entity first, F features of novelty.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

MIN_OF_EACH = 25
"""Right and wrong candidates of a kind that a fit needs; fewer leave probabilities as they are."""

RIDGE = 1.0
"""Weight of the prior that pulls every slope to its neutral value, for labels that are rare on
dev."""

_LIMIT = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """A logistic model of a candidate's label being right.

    The log-odds are `intercept + slope * logit(p) + strangeness @ features + labels[label]`.

    Attributes:
        intercept: Added to all.
        slope: Of the log-odds of the label's calibrated probability.
        strangeness: Weights of `novelty.FEATURES`. Shape (F,).
        labels: Added for each label, in the order of the classes. Shape (C - 1,).

    Reference:
        Platt (1999), with the features beside the score.
    """

    intercept: float
    slope: float
    strangeness: tuple[float, ...]
    labels: tuple[float, ...]

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """As `dataclasses.asdict` and JSON left it."""
        return cls(
            intercept=float(tree["intercept"]),
            slope=float(tree["slope"]),
            strangeness=tuple(map(float, tree["strangeness"])),
            labels=tuple(map(float, tree["labels"])),
        )

    def apply(self, probs: FloatArray, label: IntArray, strangeness: FloatArray) -> FloatArray:
        """Probabilities in which each candidate's label has its recalibrated one.

        What the label gains, all other classes lose in proportion. If it loses, the other labels
        lose in proportion too and non-entity gains it all, so the label stays ahead of the others.

        Args:
            probs: Calibrated, each row sums to 1. Shape (N, C).
            label: Class of each candidate's label, from 1 on. Shape (N,).
            strangeness: Features of each. Shape (N, F).

        Returns:
            Each row sums to 1. Shape (N, C).
        """
        rows = np.arange(len(probs))
        own = probs[rows, label].clip(_LIMIT, 1.0 - _LIMIT)
        weights = np.array([self.intercept, self.slope, *self.strangeness, *self.labels])
        odds = _design(own, label, strangeness, num_labels=len(self.labels)) @ weights
        recalibrated = _logistic(odds)
        gains = recalibrated >= own
        found = (
            probs * np.where(gains, (1.0 - recalibrated) / (1.0 - own), recalibrated / own)[:, None]
        )
        found[rows, label] = recalibrated
        found[~gains, 0] = 1.0 - found[~gains, 1:].sum(axis=1)
        total: FloatArray = found / found.sum(axis=1, keepdims=True)
        return total


def fit_recalibration(
    probs: FloatArray, label: IntArray, strangeness: FloatArray, right: BoolArray
) -> Recalibration | None:
    """Fit the model on candidates of one kind; None where there are too few to tell.

    Args:
        probs: Calibrated. Shape (N, C).
        label: Class of each candidate's label, from 1 on. Shape (N,).
        strangeness: Features of each. Shape (N, F).
        right: Whether gold has this label with these boundaries. Shape (N,).
    """
    if min(int(right.sum()), int((~right).sum())) < MIN_OF_EACH:
        return None
    num_labels = probs.shape[1] - 1
    own = probs[np.arange(len(probs)), label].clip(_LIMIT, 1.0 - _LIMIT)
    design = _design(own, label, strangeness, num_labels=num_labels)
    neutral = np.zeros(design.shape[1])
    neutral[1] = 1.0
    prior = np.full(design.shape[1], RIDGE)
    prior[0] = 0.0  # the intercept is free

    def slope(weights: FloatArray) -> FloatArray:
        gap: FloatArray = design.T @ (_logistic(design @ weights) - right)
        return gap + prior * (weights - neutral)

    def curvature(weights: FloatArray) -> FloatArray:
        recalibrated = _logistic(design @ weights)
        spread = recalibrated * (1.0 - recalibrated)
        matrix: FloatArray = (design * spread[:, None]).T @ design
        return matrix + np.diag(prior)

    # Not at the top: workers that only recognize need no SciPy.
    from scipy.optimize import root

    weights = root(slope, neutral, jac=curvature, tol=1e-10).x  # the loss is convex
    num_features = strangeness.shape[1]
    return Recalibration(
        intercept=float(weights[0]),
        slope=float(weights[1]),
        strangeness=tuple(weights[2 : 2 + num_features].tolist()),
        labels=tuple(weights[2 + num_features :].tolist()),
    )


def _design(
    own: FloatArray, label: IntArray, strangeness: FloatArray, *, num_labels: int
) -> FloatArray:
    """One, the log-odds, the features, and which label. Shape (N, 2 + F + C - 1)."""
    which = np.zeros((len(own), num_labels))
    which[np.arange(len(own)), label - 1] = 1.0
    logit = np.log(own) - np.log1p(-own)
    return np.concatenate([np.ones((len(own), 1)), logit[:, None], strangeness, which], axis=1)


def _logistic(odds: FloatArray) -> FloatArray:
    exponential = np.exp(-np.abs(odds))
    return np.where(odds >= 0, 1.0, exponential) / (1.0 + exponential)
