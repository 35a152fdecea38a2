"""What a question is worth: the gain in F1 that its answer is expected to bring.

Letters: N candidates, C classes with non-entity first.
"""

import numpy as np

from linkner_ray.linking.combination import Combination
from linkner_ray.linking.judged import Candidates, FloatArray, IntArray


def contribution(decided: IntArray, gold: IntArray, f1: float) -> FloatArray:
    """What each decision adds to F1, in units of half of predicted and gold entities together.

    F1 is 2 TP / (predicted + gold), so one more entity changes it by 2 - F1 of these units if it is
    right, and by -F1 if it is wrong.

    Args:
        decided: Class of each, 0 to leave it out. Shape (N,).
        gold: Right class. Shape (N,).
        f1: From which the change is seen, in [0, 1].
    """
    found: FloatArray = np.where(decided > 0, 2.0 * (decided == gold) - f1, 0.0)
    return found


def decide(probs: FloatArray, f1: float) -> IntArray:
    """The decision of the highest expected contribution: the likeliest label from F1 / 2 on.

    Args:
        probs: Shape (N, C).
        f1: Which is to rise, in [0, 1].

    Returns:
        Class of each, 0 to leave it out. Shape (N,).

    Reference:
        Lipton et al. (2014), Optimal Thresholding of Classifiers to Maximize F1 Measure.
    """
    best = 1 + probs[:, 1:].argmax(axis=1)
    return np.where(probs[np.arange(len(probs)), best] >= f1 / 2, best, 0)


def expected_value(
    candidates: Candidates,
    *,
    belief: Combination,
    combination: Combination,
    confusion: FloatArray,
    f1: float,
) -> FloatArray:
    """Expected contribution of the decision with an answer less that of the local model's.

    The answer is drawn from what is believed of the candidate and how the LLM calls each class.

    Args:
        candidates: N of them.
        belief: What is believed before asking; the weight of its LLM is 0.
        combination: What decides with an answer.
        confusion: Of the LLM, `evidence.confusion_of`. Shape (C of gold, C said).
        f1: From which the change is seen, in [0, 1].

    Returns:
        In the units of `contribution`; may be negative. Shape (N,).

    Reference:
        Howard (1966), Information Value Theory.
    """
    believed = belief.apply(candidates)
    value = -_expected(believed, candidates.local, f1)
    for said in range(believed.shape[1]):
        decided = decide(combination.apply(candidates, np.log(confusion[:, said])), f1)
        value += _expected(believed * confusion[:, said], decided, f1)
    return value


def _expected(weights: FloatArray, decided: IntArray, f1: float) -> FloatArray:
    """Expected contribution of decisions; the weights of the classes need not sum to 1."""
    right = weights[np.arange(len(weights)), decided]
    found: FloatArray = np.where(decided > 0, 2 * right - f1 * weights.sum(axis=1), 0.0)
    return found
