"""How reliable probabilities are, and whether uncertainty finds the errors.

Letters: N predicted entities.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

NUM_BINS = 15
"""Bins of a reliability diagram and of the calibration error, of equal mass."""


class ReliabilityBin(NamedTuple):
    """Entities of like confidence.

    Attributes:
        size: How many entities.
        confidence: Mean, in [0, 1].
        accuracy: Share that is right, in [0, 1].
    """

    size: int
    confidence: float
    accuracy: float


def reliability_bins(confidence: FloatArray, correct: BoolArray) -> list[ReliabilityBin]:
    """Sort entities by confidence and cut them into `NUM_BINS` of equally many, but for rounding.

    Args:
        confidence: In [0, 1]. Shape (N,).
        correct: Whether boundaries and label are right. Shape (N,).
    """
    if not len(confidence):
        return []
    order = np.argsort(confidence, kind="stable")
    return [
        ReliabilityBin(len(rows), float(confidence[rows].mean()), float(correct[rows].mean()))
        for rows in np.array_split(order, min(NUM_BINS, len(order)))
    ]


def expected_calibration_error(confidence: FloatArray, correct: BoolArray) -> float:
    """Mean gap between confidence and accuracy over bins of equal mass.

    Args:
        confidence: In [0, 1]. Shape (N,).
        correct: Shape (N,).

    Returns:
        In [0, 1]; 0 for no entities.

    Reference:
        Naeini et al. (2015); bins of equal mass as in Nixon et al. (2019).
    """
    bins = reliability_bins(confidence, correct)
    gaps = sum(abs(one.confidence - one.accuracy) * one.size for one in bins)
    return gaps / max(1, len(confidence))


def brier_score(confidence: FloatArray, correct: BoolArray) -> float:
    """Mean squared distance of confidence from being right (1) or wrong (0).

    Args:
        confidence: In [0, 1]. Shape (N,).
        correct: Shape (N,).

    Returns:
        In [0, 1], 0 is best; 0 for no entities.

    Reference:
        Brier (1950), for the event "this entity is right".
    """
    if not len(confidence):
        return 0.0
    return float(np.square(confidence - correct).mean())


def error_auroc(uncertainty: FloatArray, correct: BoolArray) -> float | None:
    """Chance that a wrong entity is more uncertain than a right one, ties counted half.

    Positive are the errors.

    Args:
        uncertainty: Any scale; higher is less sure. Shape (N,).
        correct: Shape (N,).

    Returns:
        In [0, 1], 0.5 for an uncertainty that says nothing; None where all or none are right.
    """
    if correct.all() or not correct.any():
        return None
    # Not at the top: workers that only calibrate need no scikit-learn.
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(~correct, uncertainty))
