"""Local probabilities and the LLM's evidence as one distribution, weighted as dev says.

Letters: N candidates, C classes with non-entity first, K kinds of candidates.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from linkner_ray.linking.evidence import log_floored
from linkner_ray.linking.judged import KINDS, Candidates, FloatArray, IntArray

RIDGE = 3.0
"""Weight of the prior that pulls a combination to the local model alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """A weighted product of local probabilities and evidence, with biases.

    The log-odds of class c are `local * log p_local(c) + llm * evidence(c) + bias[c]`; those of
    non-entity have `kinds[kind]` besides.

    Attributes:
        local: Weight of the local model, at least 0; 1 leaves it as it is.
        llm: Weight of the LLM, at least 0; 0 leaves it out.
        bias: Shape (C,).
        kinds: Shape (K,).

    Reference:
        Heskes (1998), Selecting weighting factors in logarithmic opinion pools.
    """

    local: float
    llm: float
    bias: tuple[float, ...]
    kinds: tuple[float, ...]

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """As `dataclasses.asdict` and JSON left it."""
        return cls(
            local=float(tree["local"]),
            llm=float(tree["llm"]),
            bias=tuple(map(float, tree["bias"])),
            kinds=tuple(map(float, tree["kinds"])),
        )

    def apply(self, candidates: Candidates, evidence: FloatArray | float = 0.0) -> FloatArray:
        """Probabilities of both together.

        Args:
            candidates: N of them.
            evidence: Log-likelihood of each answer under each class, up to a constant; 0 for no
                answer. Shape (N, C).

        Returns:
            Each row sums to 1. Shape (N, C).
        """
        weights = np.array([self.local, self.llm, *self.bias, *self.kinds])
        return _softmax(_odds(weights, log_floored(candidates.probs), evidence, candidates.kind))


def fit_combination(
    candidates: Candidates, evidence: FloatArray | None, gold: IntArray, *, ridge: float = RIDGE
) -> Combination:
    """Fit a combination under which gold is likeliest, not far from the local model alone.

    The penalised likelihood is concave, so it has one optimum.

    Args:
        candidates: N of them.
        evidence: Of their answers, learned on other candidates; None to fit the local part alone.
            Shape (N, C).
        gold: Class of each, 0 where gold has no entity there. Shape (N,).
        ridge: Weight of the prior.
    """
    # Not at the top: workers that only route and fuse need no SciPy.
    from scipy.optimize import minimize

    num, num_classes = candidates.probs.shape
    log_local = log_floored(candidates.probs)
    answers = np.zeros_like(log_local) if evidence is None else evidence
    truth = np.eye(num_classes)[gold]
    kinds = np.eye(len(KINDS))[candidates.kind]
    neutral = np.zeros(2 + num_classes + len(KINDS))
    neutral[0] = 1.0

    def loss(weights: FloatArray) -> tuple[float, FloatArray]:
        found = _softmax(_odds(weights, log_local, answers, candidates.kind))
        off = weights - neutral
        value = -np.log(found[np.arange(num), gold].clip(1e-300)).sum() + ridge * (off @ off) / 2
        gap = found - truth
        slope = [[(gap * log_local).sum(), (gap * answers).sum()], gap.sum(0), gap[:, 0] @ kinds]
        return float(value), np.concatenate(slope) + ridge * off

    free = (None, None)
    bounds = [(0.0, None), (0.0, None), *[free] * (num_classes + len(KINDS))]
    weights = minimize(loss, neutral, jac=True, method="L-BFGS-B", bounds=bounds).x.tolist()
    return Combination(
        local=weights[0],
        llm=weights[1],
        bias=tuple(weights[2 : 2 + num_classes]),
        kinds=tuple(weights[2 + num_classes :]),
    )


def _odds(
    weights: FloatArray, log_local: FloatArray, evidence: FloatArray | float, kind: IntArray
) -> FloatArray:
    num_classes = log_local.shape[1]
    bias, kinds = weights[2 : 2 + num_classes], weights[2 + num_classes :]
    odds: FloatArray = weights[0] * log_local + weights[1] * evidence + bias
    odds[:, 0] += kinds[kind]
    return odds


def _softmax(odds: FloatArray) -> FloatArray:
    exponential = np.exp(odds - odds.max(axis=1, keepdims=True))
    probs: FloatArray = exponential / exponential.sum(axis=1, keepdims=True)
    return probs
