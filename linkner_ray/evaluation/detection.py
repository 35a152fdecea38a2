"""How well uncertainty tells errors, and text of another kind, from the rest.

Entities of equal uncertainty count as the mean over all their orders, so no figure depends on the
order of the input. Uncertainty has any scale, higher is less sure; `correct` says whether
boundaries and label are right. Both have shape (N,): N predicted entities.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linkner_ray.spanner.calibration.reliability import error_auroc

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FOUND_PERCENT = 95
"""Percentage of the positives that must be found in "FPR@95"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetection:
    """How well an uncertainty tells wrong entities, the positives, from right ones.

    The figures are those of the functions of this module; None where they are undefined.
    """

    num_entities: int
    num_errors: int
    auroc: float | None
    aupr: float | None
    aurc: float | None
    excess_aurc: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OodDetection:
    """How well an uncertainty tells entities of another set, the positives, from those `in` one."""

    num_in: int
    num_out: int
    auroc: float | None
    fpr_at_95: float | None


def detect_errors(uncertainty: FloatArray, correct: BoolArray) -> ErrorDetection:
    """All figures of error detection."""
    return ErrorDetection(
        num_entities=len(correct),
        num_errors=int((~correct).sum()),
        auroc=error_auroc(uncertainty, correct),
        aupr=error_aupr(uncertainty, correct),
        aurc=aurc(uncertainty, correct),
        excess_aurc=excess_aurc(uncertainty, correct),
    )


def detect_ood(inside: FloatArray, outside: FloatArray) -> OodDetection:
    """All figures of OOD detection, of entities of a set like training and of another."""
    return OodDetection(
        num_in=len(inside),
        num_out=len(outside),
        # An entity of the other set stands where an error would: both are the positives.
        auroc=error_auroc(
            np.concatenate([inside, outside]),
            np.repeat([True, False], [len(inside), len(outside)]),
        ),
        fpr_at_95=false_positive_rate_at_95(inside, outside),
    )


def error_aupr(uncertainty: FloatArray, correct: BoolArray) -> float | None:
    """Average precision of finding errors; a useless uncertainty reaches the share of errors.

    Returns:
        In (0, 1]; None where all or none are right.
    """
    if correct.all() or not correct.any():
        return None
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(~correct, uncertainty))


def risk_coverage(uncertainty: FloatArray, correct: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Share of errors among the k surest entities, for k from 1 to N.

    Returns:
        Coverage k / N, ascending, and risk, each in [0, 1]. Shape (N,) each.

    Reference:
        El-Yaniv and Wiener (2010), On the Foundations of Noise-free Selective Classification.
    """
    count = len(correct)
    if not count:
        return np.zeros(0), np.zeros(0)
    _, group, sizes = np.unique(uncertainty, return_inverse=True, return_counts=True)
    errors = np.bincount(group, weights=~correct, minlength=len(sizes))
    # Averaged over the orders of a group, its errors are spread evenly over its places.
    ends = np.concatenate([[0], np.cumsum(sizes)])
    errors_at_ends = np.concatenate([[0.0], np.cumsum(errors)])
    kept = np.arange(1, count + 1)
    return kept / count, np.interp(kept, ends, errors_at_ends) / kept


def aurc(uncertainty: FloatArray, correct: BoolArray) -> float | None:
    """Area under the risk-coverage curve: mean risk over all coverages k / N.

    Returns:
        In [0, 1], 0 is best and only reached without errors; None for no entities.

    Reference:
        Geifman, Uziel, El-Yaniv (2019), Bias-Reduced Uncertainty Estimation.
    """
    _, risk = risk_coverage(uncertainty, correct)
    return float(risk.mean()) if len(risk) else None


def excess_aurc(uncertainty: FloatArray, correct: BoolArray) -> float | None:
    """AURC less that of an oracle, which is less sure of every error than of all that is right.

    Returns:
        In [0, 1], 0 is best; None for no entities.

    Reference:
        Geifman, Uziel, El-Yaniv (2019), "E-AURC".
    """
    found, best = aurc(uncertainty, correct), aurc((~correct).astype(np.float64), correct)
    # Two sums of other terms may differ by rounding where they are equal.
    return None if found is None or best is None else max(0.0, found - best)


def false_positive_rate_at_95(inside: FloatArray, outside: FloatArray) -> float | None:
    """Share of a set like training that is taken for OOD where 95 % of the OOD set are found.

    Positive is OOD. The threshold is the highest uncertainty that at least 95 % of the OOD set
    reach; what is exactly there counts as found in both sets.

    Returns:
        In [0, 1], 0 is best, 0.95 for an uncertainty that says nothing; None if a set is empty.

    Reference:
        Hendrycks and Gimpel (2017), A Baseline for Detecting Misclassified and
        Out-of-Distribution Examples; the rate as in Liang et al. (2018), ODIN.
    """
    if not len(inside) or not len(outside):
        return None
    needed = -(-FOUND_PERCENT * len(outside) // 100)
    threshold = np.sort(outside)[len(outside) - needed]
    return float((inside >= threshold).mean())
