"""Ways of asking are compared by the answers to the same questions."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from linkner_ray.config import LlmConfig
from linkner_ray.errors import StartupError
from linkner_ray.evaluation.ways_of_asking import Asker, Cost
from linkner_ray.linking.held_out import held_out_surprise
from linkner_ray.linking.judged import UNANSWERED, Answers, Candidates, FloatArray, IntArray
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.stages.link_source import asked_way

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of one way of asking.

    Attributes:
        llm: The way.
        table: The documents with their answers.
        tokens: Of a prompt.
        right: Share of the candidates about which the LLM is right, in [0, 1].
        gain: How much likelier gold is with each answer than without, in nats, by both models
            combined on other parts of dev. Shape (candidates,).
    """

    llm: LlmConfig
    table: pa.Table
    tokens: float
    right: float
    gain: FloatArray

    @property
    def gain_error(self) -> float:
        """Standard error of the mean of `gain`."""
        return float(self.gain.std()) / max(1, len(self.gain)) ** 0.5

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **asked_way(self.llm),
            "questions": len(self.gain),
            "prompt_tokens": self.tokens,
            "right": self.right,
            "gain_in_nats": float(self.gain.mean()),
            "gain_error": self.gain_error,
        }


def try_ways(
    asker: Asker, costs: Mapping[LlmConfig, Cost], table: pa.Table, gold: IntArray
) -> list[Trial]:
    """Ask in each way, and see what the answers add to the local model.

    A form in which the LLM does not start is left out, and the log says why.

    Args:
        asker: Asks.
        costs: What each way takes.
        table: Documents whose candidates are all asked about.
        gold: Class of each candidate, 0 where gold has no entity there.

    Raises:
        StartupError: If it starts in no form.
        BackendError: If it can answer no more.
    """
    trials: list[Trial] = []
    failed: dict[str, StartupError] = {}
    for llm, cost in costs.items():
        if llm.answer_form in failed:
            continue
        try:
            answered = asker.ask(llm, table)
        except StartupError as error:
            failed[llm.answer_form] = error
            continue
        trials.append(_judged(llm, answered, gold, asker.label_set.classes, cost.tokens_each))
    for form, problem in failed.items():
        if not trials:
            raise problem
        logger.warning("llm.answer_form = %s is left out: %s", form, problem)
    return trials


def _judged(
    llm: LlmConfig, answered: pa.Table, gold: IntArray, classes: Sequence[str], tokens: float
) -> Trial:
    candidates = Candidates.of(answered["candidates"].combine_chunks(), classes)
    answers = Answers.of(answered["answers"].combine_chunks(), classes)
    nobody = Answers(said=np.full(len(gold), UNANSWERED), probs=None)
    alone = held_out_surprise(candidates, nobody, gold)
    return Trial(
        llm=llm,
        table=answered,
        tokens=tokens,
        right=float((answers.said == gold).mean()),
        gain=alone - held_out_surprise(candidates, answers, gold),
    )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The cheapest in tokens of those that are within a standard error of the best.

    Reference:
        Breiman et al. (1984), Classification and Regression Trees, the rule of one standard error.
    """
    best = max(trials, key=lambda trial: float(trial.gain.mean()))

    def is_as_good(trial: Trial) -> bool:
        behind = best.gain - trial.gain
        return float(behind.mean()) <= float(behind.std()) / max(1, len(behind)) ** 0.5

    return min(filter(is_as_good, trials), key=lambda t: (t.tokens, -float(t.gain.mean())))


def describe_trials(trials: Sequence[Trial], *, chosen: LlmConfig) -> str:
    """The ways of asking beside each other, as Markdown."""
    rows = [
        {
            "llm.answer_form": trial.llm.answer_form,
            "llm.demonstrations.kind": trial.llm.demonstrations.kind,
            "LLM right": f"{trial.right:.1%}",
            "gold likelier by": f"{trial.gain.mean():+.3f} +- {trial.gain_error:.3f} nats",
            "prompt tokens": f"{trial.tokens:,.0f}",
            "": "chosen" if trial.llm == chosen else "",
        }
        for trial in trials
    ]
    return (
        f"Ways of asking, on {len(trials[0].gain):,} candidates; the cheapest is taken of those "
        f"within a standard error of the best:\n\n{markdown_table(rows)}"
    )
