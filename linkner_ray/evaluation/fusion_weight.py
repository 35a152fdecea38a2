"""The weight of the LLM in a product, fitted where gold is known.

Letters: N spans, C classes with non-entity first.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from linkner_ray.stages.fuse_entities import PROB_FLOOR

FloatArray = NDArray[np.float64]


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

    def slope(weight: float) -> float:
        """Of the mean negative log-likelihood: expected gain less that of gold."""
        pooled = softmax(local + weight * gain, axis=1)
        return float(((pooled * gain).sum(axis=1) - gain_of_gold).mean())

    if slope(0.0) >= 0:
        return 0.0
    if slope(1.0) <= 0:
        return 1.0
    return float(brentq(slope, 0.0, 1.0))
