"""Bootstrap intervals of scores and of their differences.

Documents are drawn, not entities, since entities of one document depend on each other. Two systems
are compared on the same draws, so documents that both find hard cancel out.

Letters: D documents, S samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

NUM_SAMPLES = 1000
"""Enough for bounds that move by less than a tenth of the interval from seed to seed."""

CONFIDENCE = 0.95

_ROWS_AT_ONCE = 2**24  # weights turned into floats at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """F1 of a second system less that of a first, and where 95 % of the draws put it."""

    difference: float
    low: float
    high: float

    @property
    def is_inside(self) -> bool:
        """Whether the interval holds 0, and so the difference may be chance."""
        return self.low <= 0.0 <= self.high


class Resampler:
    """Draws samples of as many documents as there are, with replacement.

    Args:
        num_documents: D.
        samples: S.
        seed: The same seed gives the same draws.
    """

    def __init__(self, num_documents: int, *, samples: int = NUM_SAMPLES, seed: int = 0) -> None:
        """Draw all samples."""
        rng = np.random.default_rng(seed)
        # A document is drawn once in the mean (Poisson), so a count never exceeds 255.
        self._weights = np.zeros((samples, num_documents), dtype=np.uint8)
        for row in self._weights if num_documents else ():
            drawn = rng.integers(num_documents, size=num_documents)
            row[:] = np.bincount(drawn, minlength=num_documents)

    def f1(self, counts: IntArray) -> FloatArray:
        """F1 of each draw. Shape (S,).

        Args:
            counts: True positives, false positives, false negatives of each document. Shape (D, 3).
        """
        samples, num_documents = self._weights.shape
        values = counts.astype(np.float32)  # whole numbers below 2^24 are exact
        step = max(1, _ROWS_AT_ONCE // max(1, num_documents))
        sums = [
            self._weights[first : first + step].astype(np.float32) @ values
            for first in range(0, samples, step)
        ]
        return _f1(np.concatenate(sums).astype(np.float64))

    def interval(self, counts: IntArray) -> tuple[float, float]:
        """Bounds of 95 % of a system's F1; percentiles of the draws."""
        low, high = _percentiles(self.f1(counts))
        return low, high

    def difference(self, first: IntArray, second: IntArray) -> Interval:
        """By how much the second system is better than the first, on the same draws.

        Reference:
            Efron and Tibshirani (1993), percentile bootstrap; paired as in Koehn (2004),
            Statistical Significance Tests for Machine Translation Evaluation.
        """
        low, high = _percentiles(self.f1(second) - self.f1(first))
        seen = float(f1_of(second) - f1_of(first))
        return Interval(difference=seen, low=low, high=high)


def f1_of(counts: IntArray) -> float:
    """F1 of all documents together. Shape (D, 3)."""
    return float(_f1(counts.sum(axis=0, keepdims=True).astype(np.float64))[0])


def _f1(sums: FloatArray) -> FloatArray:
    """F1 of each row of (true positives, false positives, false negatives); 0 for none at all."""
    found = 2 * sums[:, 0]
    total = found + sums[:, 1] + sums[:, 2]
    return np.divide(found, total, out=np.zeros(len(sums)), where=total > 0)


def _percentiles(values: FloatArray) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
