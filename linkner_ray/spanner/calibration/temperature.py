"""Temperature scaling, and what a checkpoint keeps of its dev set.

Letters: N spans, C classes with non-entity first.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from linkner_ray.spanner.calibration.recalibration import Recalibration

if TYPE_CHECKING:  # a plan reads the calibration of a checkpoint and needs no model library
    from torch import Tensor

FloatArray = NDArray[np.float64]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What dev decided about a trained model, and how reliable its probabilities are.

    All figures are of predicted dev entities; a field that is None was never measured.
    """

    temperature: float = 1.0
    """Log-probabilities are divided by it and normalised again."""

    num_spans: int = 0
    """Dev spans it was fitted on; 0 for a model that was never calibrated."""

    ece_before: float | None = None
    """Expected calibration error at temperature 1, in [0, 1]."""

    ece_after: float | None = None
    """The same at the fitted temperature, on the spans it was fitted on."""

    ece_held_out: float | None = None
    """The same with each half of dev at the temperature of the other half."""

    brier: float | None = None
    """Brier score at the fitted temperature."""

    near_miss_floor: float | None = None
    """Entity probability from which a span that lost is a near miss."""

    max_near_misses: int | None = None
    """Near misses of a sentence at most."""

    certain_confidence: float | None = None
    """Confidence from which a predicted entity tolerates no near miss over it."""

    candidate_recall: float | None = None
    """Share of dev's gold entities whose boundaries a candidate has under these rules."""

    extra_share: float | None = None
    """Near misses for each predicted one of dev under these rules."""

    recalibration: Recalibration | None = None
    """How often predicted entities are right; None to take it from their probabilities."""

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """As `dataclasses.asdict` and JSON left it.

        Raises:
            TypeError: If a field is unknown.
            KeyError: If a part of the recalibration is missing.
        """
        recalibration = tree.get("recalibration")
        return cls(
            **{
                **tree,
                "recalibration": None
                if recalibration is None
                else Recalibration.from_json(recalibration),
            }
        )


def apply_temperature(log_probs: "Tensor", temperature: float) -> "Tensor":
    """Log-probabilities at a temperature. Shape (..., C) in and out."""
    return (log_probs / temperature).log_softmax(dim=-1)


def fit_temperature(log_probs: FloatArray, gold: NDArray[np.int64]) -> float:
    """Temperature of the least negative log-likelihood.

    The likelihood is convex in the inverse temperature, so the sign of its slope brackets the
    optimum.

    Args:
        log_probs: Shape (N, C).
        gold: Class of each span. Shape (N,).

    Returns:
        From `MIN_TEMPERATURE` to `MAX_TEMPERATURE`; 1 if there is nothing to fit on.

    Reference:
        Guo et al. (2017), On Calibration of Modern Neural Networks.
    """
    if not len(gold):
        return 1.0
    # Not at the top: workers that only recognize need no SciPy.
    from scipy.optimize import brentq
    from scipy.special import softmax

    of_gold = log_probs[np.arange(len(gold)), gold]

    def slope(inverse: float) -> float:
        expected = (softmax(log_probs * inverse, axis=1) * log_probs).sum(axis=1)
        return float((expected - of_gold).mean())

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(low) > 0:
        return MAX_TEMPERATURE
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    return 1.0 / float(brentq(slope, low, high))
