"""What is said of each part of a labelled set by what the other parts show.

Letters: N candidates, C classes with non-entity first.
"""

import numpy as np

from linkner_ray.linking.combination import fit_combination
from linkner_ray.linking.evidence import confusion_of, log_floored, log_mean, without_prior
from linkner_ray.linking.judged import UNANSWERED, Answers, Candidates, FloatArray, IntArray

FOLDS = 5
"""Parts of dev; what is learned of an answer is tried on the other parts."""


def parts_of(document: IntArray) -> IntArray:
    """Part of each candidate; candidates of a document are in one part. Shape (N,)."""
    documents, row = np.unique(document, return_inverse=True)
    dealt = np.random.default_rng(0).permutation(len(documents)) % FOLDS
    return dealt[row].astype(np.int64)


def evidence_of_choices(
    said: IntArray, gold: IntArray, parts: IntArray, num_classes: int
) -> FloatArray:
    """What each choice says, by how often the LLM calls which class what in other parts."""
    evidence = np.zeros((len(said), num_classes))
    for part in range(FOLDS):
        here, there = parts == part, parts != part
        confusion = confusion_of(said[there], gold[there], num_classes)
        evidence[here] = np.log(confusion[:, said[here]].T)
    return evidence


def evidence_of_probs(answers: Answers) -> tuple[FloatArray, FloatArray] | None:
    """What the LLM's probabilities say, and what they are on average, which is taken out.

    Returns:
        Evidence, shape (N, C), and the logarithm of the average, shape (C,); None if an answer has
            no probabilities.
    """
    if answers.probs is None or not answers.has_probs().all():
        return None
    log_probs = log_floored(answers.probs)
    prior = log_mean(log_probs)
    return without_prior(log_probs, prior), prior


def held_out_probs(
    candidates: Candidates, evidence: FloatArray | None, gold: IntArray, parts: IntArray
) -> FloatArray:
    """Probabilities in each part by what is fitted on the others. Shape (N, C)."""
    probs = np.zeros_like(candidates.probs)
    for part in range(FOLDS):
        here, there = np.flatnonzero(parts == part), np.flatnonzero(parts != part)
        known = None if evidence is None else evidence[there]
        fit = fit_combination(candidates.take(there), known, gold[there])
        own = candidates.take(here)
        probs[here] = fit.apply(own, 0.0 if evidence is None else evidence[here])
    return probs


def held_out_surprise(candidates: Candidates, answers: Answers, gold: IntArray) -> FloatArray:
    """How much gold surprises who knows the answers: minus the log-likelihood, in nats.

    Both models are combined as in a link; a candidate without an answer is the local model's.

    Args:
        candidates: N of them.
        answers: To a question about each.
        gold: Class of each, 0 where gold has no entity there. Shape (N,).

    Returns:
        Shape (N,).
    """
    parts = parts_of(candidates.document)
    probs = held_out_probs(candidates, None, gold, parts)
    rows = np.flatnonzero(answers.said != UNANSWERED)
    if len(rows):
        known, truth, own = answers.take(rows), gold[rows], parts[rows]
        told = evidence_of_probs(known)
        num_classes = candidates.probs.shape[1]
        evidence = (
            evidence_of_choices(known.said, truth, own, num_classes) if told is None else told[0]
        )
        probs[rows] = held_out_probs(candidates.take(rows), evidence, truth, own)
    surprise: FloatArray = -np.log(probs[np.arange(len(gold)), gold].clip(1e-300))
    return surprise
