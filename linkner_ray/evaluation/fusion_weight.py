"""The weight of the LLM in a product, fitted where gold is known.

Letters: N spans, C classes with non-entity first.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from linkner_ray.corpora.scores import Entity
from linkner_ray.labels import NON_ENTITY
from linkner_ray.stages.fuse_entities import PROB_FLOOR, choice_probs

FloatArray = NDArray[np.float64]

READABLE = ("label", "non_entity")
"""Verdicts that name a class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductFit:
    """Best settings of fusion by product, for routed spans whose answer names a class."""

    num_spans: int
    weight: float
    """Likeliest `fusion.weight`."""

    reliability: float
    """Share of answers that name gold's class; likeliest `fusion.reliability` of choices."""


def fit_product(
    table: pa.Table,
    gold: Sequence[Collection[Entity]],
    classes: Sequence[str],
    *,
    reliability: float,
) -> ProductFit | None:
    """Fit the weight of a product on routed candidates; None if no answer could be read.

    Args:
        table: Documents with candidates, routes and answers.
        gold: Gold entities of each document.
        classes: `LabelSet.classes`.
        reliability: Of answers without probabilities.
    """
    local, theirs, truth, chosen = [], [], [], []
    columns = (table[name].to_pylist() for name in ("candidates", "routes", "answers"))
    for candidates, routes, answers, golden in zip(*columns, gold, strict=True):
        right = {(start, end): classes.index(label) for start, end, label in golden}
        for candidate, route, answer in zip(candidates, routes, answers, strict=True):
            if route != "llm" or answer["verdict"] not in READABLE:
                continue
            choice = classes.index(answer["label"] or NON_ENTITY)
            bare = choice_probs(choice, len(classes), reliability)
            local.append(candidate["label_probs"])
            theirs.append(answer["probs"] or bare)
            truth.append(right.get((candidate["start"], candidate["end"]), 0))
            chosen.append(choice)
    if not truth:
        return None
    weight = fit_product_weight(np.array(local), np.array(theirs), np.array(truth))
    agreed = float(np.mean(np.array(truth) == np.array(chosen)))
    return ProductFit(num_spans=len(truth), weight=weight, reliability=agreed)


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
        In [0, 1].
    """
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
