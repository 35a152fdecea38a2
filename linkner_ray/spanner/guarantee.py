"""A threshold below which local labels are wrong no more often than promised.

Letters: M predicted entities.
"""

import math

import numpy as np
from numpy.typing import NDArray

from linkner_ray.errors import DataError
from linkner_ray.spanner.thresholds import Guarantee

SHARES = np.arange(20, 101, 2) / 100
"""Shares of predicted entities that stay local, tested from the first to the last. They are fixed
beforehand, and which threshold each means follows from uncertainties alone: it is that of the first
entity that does not stay, and given that, those below it are a fair sample of what lies below."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def guaranteed_threshold(
    uncertainty: FloatArray,
    correct: BoolArray,
    groups: IntArray,
    *,
    alpha: float,
    delta: float,
) -> Guarantee:
    """The highest threshold for which the error of what stays local is at most alpha, by a test.

    Hypotheses "the error among labels that stay local exceeds alpha" are tested for ever larger
    shares of local labels, each at level delta, until one cannot be rejected; so the chance that
    any rejected one was true is at most delta. Entities of one sentence are wrong together more
    often than by chance, so counts are divided by a design effect before the binomial test.

    It holds for text that is drawn like this set and was not used to train or choose the model. A
    set that also chose temperature and belief promises a little too much, and text of another kind
    is not promised anything.

    Args:
        uncertainty: Of predicted entities. Shape (M,).
        correct: Whether boundaries and label are right. Shape (M,).
        groups: Sentence or document of each. Shape (M,).
        alpha: Error promised, in (0, 1).
        delta: Chance that the promise is broken, in (0, 1).

    Raises:
        DataError: If the set is too small for any promise, or its surest labels are wrong too
            often.

    Reference:
        Angelopoulos et al. (2021), Learn then Test: Calibrating Predictive Algorithms to Achieve
        Risk Control, fixed sequence testing; Kish (1965), Survey Sampling, design effect.
    """
    count = len(correct)
    order = np.argsort(uncertainty, kind="stable")
    values, wrong, cluster = uncertainty[order], ~correct[order], groups[order]
    needed = _least_entities(cluster, alpha=alpha, delta=delta)
    if count < needed:
        raise DataError(
            f"a promise of alpha = {alpha:g} with delta = {delta:g} needs at least {needed} "
            f"predicted entities, the set has {count}; give a larger labelled set, alpha or delta"
        )
    found: Guarantee | None = None
    for share in SHARES:
        kept = int(share * count)
        # Equal uncertainties stay local together.
        kept = int(np.searchsorted(values, values[kept - 1], side="right"))
        effect = design_effect(wrong[:kept], cluster[:kept])
        errors = int(wrong[:kept].sum())
        if _binomial_tail(errors / effect, kept / effect, alpha) > delta:
            break
        found = Guarantee(
            threshold=float(values[kept]) if kept < count else 1.0,
            alpha=alpha,
            delta=delta,
            num_entities=count,
            num_local=kept,
            num_errors=errors,
            design_effect=effect,
        )
    if found is None:
        kept = int(SHARES[0] * count)
        raise DataError(
            f"no promise of alpha = {alpha:g} with delta = {delta:g}: of the surest {kept} labels "
            f"{int(wrong[:kept].sum())} are wrong; give a larger alpha or a larger set"
        )
    return found


def design_effect(wrong: BoolArray, groups: IntArray) -> float:
    """By how much errors that come together in groups blow up the variance of their share.

    That is 1 + (mean size - 1) * correlation, the mean taken over entities. The correlation comes
    from the groups that hold an error, and one more is added in which all are wrong together: a
    handful of errors cannot show that they come alone, and without any it is taken for 1.

    Args:
        wrong: Shape (M,).
        groups: Shape (M,).

    Returns:
        Variance of the share with groups drawn, over that with entities drawn; at least 1.

    Reference:
        Kish (1965), Survey Sampling, "deff" and "roh".
    """
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    num_pairs = float((sizes * (sizes - 1.0)).sum())
    if not num_pairs:
        return 1.0
    share = float(wrong.mean())
    num_informative, correlation = 0, 0.0
    if 0.0 < share < 1.0:
        errors = np.bincount(index, weights=wrong)
        residuals = float(((errors - share * sizes) ** 2).sum()) / (share * (1.0 - share))
        correlation = (residuals - len(wrong)) / num_pairs  # all pairs, less each with itself
        num_informative = int(((errors > 0) & (sizes > 1)).sum())
    cautious = (num_informative * correlation + 1.0) / (num_informative + 1)
    return 1.0 + num_pairs / len(wrong) * max(0.0, cautious)


def _least_entities(groups: IntArray, *, alpha: float, delta: float) -> int:
    """Entities of which the first share passes if none of them is wrong.

    Args:
        groups: By uncertainty. Shape (M,).
        alpha: As promised.
        delta: As promised.
    """
    kept = int(SHARES[0] * len(groups))
    effect = design_effect(np.zeros(kept, dtype=np.bool_), groups[:kept])
    alone = math.ceil(math.log(delta) / math.log1p(-alpha))
    return math.ceil(math.ceil(alone * effect) / SHARES[0])


def _binomial_tail(errors: float, trials: float, alpha: float) -> float:
    """Chance of no more errors if each trial is one with chance alpha; rounded against us."""
    most, count = math.ceil(errors), math.floor(trials)
    if most >= count:
        return 1.0
    terms = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(alpha)
        + (count - k) * math.log1p(-alpha)
        for k in range(most + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, terms)))
