"""Candidates and answers with known properties."""

import numpy as np

from linkner_ray.linking.judged import Answers, Candidates


def candidates(probs, *, label=None, kind=None, document=None) -> Candidates:
    probs = np.array(probs, dtype=np.float64)
    num = len(probs)
    return Candidates(
        probs=probs,
        label=1 + probs[:, 1:].argmax(axis=1) if label is None else np.array(label),
        kind=np.zeros(num, dtype=np.int64) if kind is None else np.array(kind),
        document=np.arange(num) if document is None else np.array(document),
    )


def drawn(num: int, *, accuracy: float, seed: int = 0, with_probs: bool = False):
    """Calibrated candidates of three classes, and an LLM that is right so often.

    Returns:
        Candidates, answers and gold.
    """
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(3, 0.7), size=num)
    gold = (rng.random(num)[:, None] > probs.cumsum(axis=1)).sum(axis=1).clip(max=2)
    said = np.where(rng.random(num) < accuracy, gold, rng.integers(0, 3, num))
    told = np.full((num, 3), 0.1)
    told[np.arange(num), said] = 0.8
    kind = np.where(probs.argmax(axis=1) > 0, 0, 2)
    found = candidates(probs, kind=kind)
    return found, Answers(said=said, probs=told if with_probs else None), gold
