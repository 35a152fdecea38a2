"""Candidates and answers with known properties."""

import numpy as np

from linkner_ray.linking.combination import Combination
from linkner_ray.linking.judged import KINDS, Answers, Candidates
from linkner_ray.linking.link import Link
from linkner_ray.stages.link_source import link_bytes, link_identity


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


def link_of(classes, *, gain=0.3, by_share=((0.1, 0.7), (0.5, 0.8), (1.0, 0.9))) -> Link:
    """Of an LLM that is right nine times in ten, and a local model of F1 0.6."""
    zeros = (0.0,) * len(classes)
    belief = Combination(local=1.0, llm=0.0, bias=zeros, kinds=(0.0,) * len(KINDS))
    wrong = 0.1 / (len(classes) - 1)
    return Link(
        classes=tuple(classes),
        num_answers=1000,
        f1=0.6,
        aim=0.9,
        gain=gain,
        gain_error=0.02,
        by_share=by_share,
        belief=belief,
        combination=Combination(local=1.0, llm=1.0, bias=zeros, kinds=belief.kinds),
        confusion=np.full((len(classes),) * 2, wrong) + np.eye(len(classes)) * (0.9 - wrong),
        pooled=None,
        log_prior=None,
    )


def write_link(target, config, label_set, **changes) -> str:
    """Write a link for the checkpoint and the LLM of a config; the override that names it."""
    identity = link_identity(config.recognize, config.llm, label_set)
    target.write_bytes(link_bytes(link_of(label_set.classes, **changes), identity, llm=config.llm))
    return f"routing.link={target}"
