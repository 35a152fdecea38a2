"""The weight of the LLM in a product, fitted where gold is known.

Letters: N spans, C classes with non-entity first.
"""

import numpy as np
from numpy.typing import NDArray

from linkner_ray.stages.fuse_entities import PROB_FLOOR

FloatArray = NDArray[np.float64]

_HALVINGS = 50


def fit_product_weight(
    local_probs: FloatArray, llm_probs: FloatArray, gold: NDArray[np.int64]
) -> float:
    """Weight under which gold is likeliest, for p_local^(1 - weight) * p_llm^weight.

    The negative log-likelihood is convex in the weight, since the pool is log-linear in it, so the
    sign of its slope brackets the optimum.

    Args:
        local_probs: Shape (N, C).
        llm_probs: Of the same spans; a bare choice as `choice_probs` spreads it. Shape (N, C).
        gold: Class of each span, 0 where no entity has its boundaries. Shape (N,).

    Returns:
        In [0, 1]; 0.5 if there is nothing to fit on.
    """
    if not len(gold):
        return 0.5
    local = np.log(np.maximum(local_probs, PROB_FLOOR))
    gain = np.log(np.maximum(llm_probs, PROB_FLOOR)) - local  # d log pool / d weight
    gain_of_gold = gain[np.arange(len(gold)), gold]
    low, high = 0.0, 1.0
    if _slope(local, gain, gain_of_gold, weight=low) >= 0:
        return low
    if _slope(local, gain, gain_of_gold, weight=high) <= 0:
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _slope(local, gain, gain_of_gold, weight=middle) > 0:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _slope(
    local: FloatArray, gain: FloatArray, gain_of_gold: FloatArray, *, weight: float
) -> float:
    """Slope of the mean negative log-likelihood: expected gain less that of gold."""
    scores = local + weight * gain
    pooled = np.exp(scores - scores.max(axis=1, keepdims=True))
    pooled /= pooled.sum(axis=1, keepdims=True)
    return float(((pooled * gain).sum(axis=1) - gain_of_gold).mean())
