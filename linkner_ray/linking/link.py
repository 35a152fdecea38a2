"""A link: what dev shows of one checkpoint and one LLM together.

Letters: N candidates, C classes with non-entity first.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from linkner_ray.linking.combination import Combination, fit_combination
from linkner_ray.linking.evidence import confusion_of, log_floored, without_prior
from linkner_ray.linking.held_out import (
    evidence_of_choices,
    evidence_of_probs,
    held_out_probs,
    parts_of,
)
from linkner_ray.linking.judged import UNANSWERED, Answers, Candidates, FloatArray, IntArray
from linkner_ray.linking.value import contribution, decide, expected_value

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Of the candidates, for which a link says what to expect."""

MIN_SIGNIFICANCE = 2.0
"""Standard errors by which the LLM's gain on dev must exceed 0; chance does so in one of 44."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How far an LLM is believed, and what asking it is worth.

    Attributes:
        classes: `LabelSet.classes`: the order of every probability vector.
        num_answers: Readable answers it was fitted on.
        f1: Of the local model on dev, in [0, 1].
        aim: F1 on dev with all answers, which decisions are made for.
        gain: What the answers add to dev's F1 over the same fit without them, in [0, 1], if every
            candidate is asked about; each part of dev by what the others show.
        gain_error: Its standard error.
        by_share: Share of the candidates asked about, the most promising first, and dev's F1 then,
            both in [0, 1]; decided in each part of dev by what the others show.
        belief: Local probabilities, recalibrated.
        combination: Of local probabilities and what the LLM's choice says.
        confusion: How often the LLM calls each class each class. Shape (C of gold, C said).
        pooled: Of local probabilities and the LLM's; None where an answer of dev has none.
        log_prior: What the LLM answers on average; None as `pooled`. Shape (C,).
    """

    classes: tuple[str, ...]
    num_answers: int
    f1: float
    aim: float
    gain: float
    gain_error: float
    by_share: tuple[tuple[float, float], ...]
    belief: Combination
    combination: Combination
    confusion: FloatArray
    pooled: Combination | None
    log_prior: FloatArray | None

    @property
    def asks(self) -> bool:
        """Whether the answers gain anything that dev can tell from chance."""
        return self.gain > MIN_SIGNIFICANCE * self.gain_error

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """As `to_json` and JSON left it."""
        pooled, prior = tree["pooled"], tree["log_prior"]
        return cls(
            classes=tuple(tree["classes"]),
            num_answers=int(tree["num_answers"]),
            f1=float(tree["f1"]),
            aim=float(tree["aim"]),
            gain=float(tree["gain"]),
            gain_error=float(tree["gain_error"]),
            by_share=tuple((float(share), float(f1)) for share, f1 in tree["by_share"]),
            belief=Combination.from_json(tree["belief"]),
            combination=Combination.from_json(tree["combination"]),
            confusion=np.array(tree["confusion"], dtype=np.float64),
            pooled=None if pooled is None else Combination.from_json(pooled),
            log_prior=None if prior is None else np.array(prior, dtype=np.float64),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        tree = asdict(self)
        tree["confusion"] = self.confusion.tolist()
        tree["log_prior"] = None if self.log_prior is None else self.log_prior.tolist()
        return tree

    def value(self, candidates: Candidates) -> FloatArray:
        """Expected gain of a question about each candidate; 0 for all if the LLM gains nothing.

        Returns:
            In entities put right: one that was missing and is found adds 1. Shape (N,).
        """
        if not self.asks:
            return np.zeros(len(candidates))
        value = expected_value(
            candidates,
            belief=self.belief,
            combination=self.combination,
            confusion=self.confusion,
            f1=self.aim,
        )
        return value / (2.0 - self.aim)

    def f1_at(self, share: float) -> float:
        """F1 to expect of text like dev, if the most promising candidates are asked about.

        Args:
            share: Of the candidates, in [0, 1]; between two of `by_share`, F1 is interpolated.
        """
        shares, scores = zip((0.0, self.f1), *self.by_share, strict=True)
        return float(np.interp(share, shares, scores))

    def fuse(self, candidates: Candidates, answers: Answers) -> tuple[IntArray, FloatArray]:
        """Decide candidates by both models; where there is no answer, by the local one.

        Returns:
            Class of each, 0 to leave it out, and the probability of its likeliest label.
            Shapes (N,).
        """
        evidence = np.log(self.confusion[:, np.maximum(answers.said, 0)].T)
        probs = self.combination.apply(candidates, evidence)
        if self.pooled is not None and self.log_prior is not None and answers.probs is not None:
            # By row: what one answer lacks is not to change how another counts.
            rows = np.flatnonzero(answers.has_probs())
            evidence = without_prior(log_floored(answers.probs[rows]), self.log_prior)
            probs[rows] = self.pooled.apply(candidates.take(rows), evidence)
        answered = answers.said != UNANSWERED
        decided = np.where(answered, decide(probs, self.aim), candidates.local)
        return decided, probs[:, 1:].max(axis=1)


def fit_link(  # noqa: PLR0913 - a labelled set in its parts
    candidates: Candidates,
    answers: Answers,
    gold: IntArray,
    *,
    classes: Sequence[str],
    f1: float,
    num_counted: int,
) -> Link:
    """Fit a link on a labelled set whose candidates were asked about.

    Args:
        candidates: Of the set, or a sample of its documents.
        answers: To a question about each; candidates without a readable answer are left out.
        gold: Class of each, 0 where gold has no entity there. Shape (N,).
        classes: `LabelSet.classes`.
        f1: Of the local model on the set, in [0, 1].
        num_counted: Predicted and gold entities of the same documents, which F1 is divided by.
    """
    rows = np.flatnonzero(answers.said != UNANSWERED)
    candidates, answers, gold = candidates.take(rows), answers.take(rows), gold[rows]
    parts = parts_of(candidates.document)
    by_choice = evidence_of_choices(answers.said, gold, parts, len(classes))
    evidence, prior = evidence_of_probs(answers) or (by_choice, None)
    both = held_out_probs(candidates, evidence, gold, parts)
    alone = held_out_probs(candidates, None, gold, parts)
    local = _Counts(candidates.local, gold, f1=f1, counted=num_counted)
    aim = local.best_f1(both)
    gains = contribution(decide(both, aim), gold, aim)
    gains = (gains - contribution(decide(alone, aim), gold, aim)) / max(1, num_counted)
    link = Link(
        classes=tuple(classes),
        num_answers=len(rows),
        f1=f1,
        aim=aim,
        gain=float(gains.sum()),
        gain_error=float(gains.std()) * len(rows) ** 0.5,
        by_share=(),
        belief=fit_combination(candidates, None, gold),
        combination=fit_combination(candidates, by_choice, gold),
        confusion=confusion_of(answers.said, gold, len(classes)),
        pooled=None if prior is None else fit_combination(candidates, evidence, gold),
        log_prior=prior,
    )
    order = np.argsort(-link.value(candidates), kind="stable")
    rising = local.rising_f1(decide(both, aim), order)
    taken = {share: round(share * len(rows)) for share in SHARES}
    by_share = tuple((share, float(rising[num - 1])) for share, num in taken.items() if num)
    return replace(link, by_share=by_share)


@dataclass(frozen=True, slots=True)
class _Counts:
    """What F1 on dev comes to when candidates are decided anew.

    Attributes:
        local: Class of each by the local model alone. Shape (N,).
        gold: Shape (N,).
        f1: With these.
        counted: Predicted and gold entities with these.
    """

    local: IntArray
    gold: IntArray
    f1: float
    counted: int

    def rising_f1(self, decided: IntArray, order: IntArray) -> FloatArray:
        """F1 after each candidate, in an order, is decided anew. Shape (N,)."""
        new, old, gold = decided[order], self.local[order], self.gold[order]
        more_right = ((new > 0) & (new == gold)).astype(float) - ((old > 0) & (old == gold))
        more_counted = (new > 0).astype(float) - (old > 0)
        right = self.counted * self.f1 / 2 + more_right.cumsum()
        counted = self.counted + more_counted.cumsum()
        found: FloatArray = 2 * right / np.maximum(1, counted)
        return found

    def best_f1(self, probs: FloatArray) -> float:
        """The highest F1 that `decide` reaches with these probabilities.

        A decision at F1 / 2 is the best one for that F1, so F1 rises from one to the next until it
        stays (Dinkelbach, 1967, On Nonlinear Fractional Programming).
        """
        best, everything = self.f1, np.arange(len(probs))
        while len(probs):
            found = float(self.rising_f1(decide(probs, best), everything)[-1])
            if found <= best:
                break
            best = found
        return best
