"""Every estimate of uncertainty that a checkpoint can give, for the same candidates.

Letters: N candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from linkner_ray.config import RecognizeConfig, Uncertainty
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.span_table import CandidateTable
from linkner_ray.spanner.uncertainty import least_confidence, margin, predictive_entropy

READ_OFF: tuple[Uncertainty, ...] = ("confidence", "entropy", "margin")
"""Estimates that follow from the probabilities of a candidate."""

OTHERS: tuple[Uncertainty, ...] = ("energy", "mc_dropout", "evidential")
"""Estimates that need a pass of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedCandidates:
    """Candidates with all their uncertainties.

    Attributes:
        table: Candidates; their `uncertainty` is that of `confidence`.
        uncertainty: By estimate. Shape (N,) each.
    """

    table: CandidateTable
    uncertainty: dict[str, NDArray[np.float64]]


def missing_estimates(*, loss: str, dropout: float) -> dict[Uncertainty, str]:
    """Estimates that a checkpoint cannot give, each with why."""
    found: dict[Uncertainty, str] = {}
    if loss != "evidential":
        found["evidential"] = f"the checkpoint was trained with loss {loss}"
    if dropout == 0:
        found["mc_dropout"] = "the checkpoint has no dropout"
    return found


def candidates_by_estimate(
    model: SpanNER, sentences: Sequence[Sequence[str]], config: RecognizeConfig
) -> EstimatedCandidates:
    """Find the candidates of sentences, and every uncertainty the checkpoint can give them.

    Args:
        model: Loaded.
        sentences: Tokens of each.
        config: How to compute; its estimate is of no account.
    """
    missing = missing_estimates(loss=model.loss, dropout=model.config.dropout)

    def candidates(estimate: Uncertainty) -> CandidateTable:
        chosen = config.model_copy(update={"uncertainty": estimate})
        return Recognizer(model, chosen).candidates(sentences)

    table = candidates("confidence")
    found: dict[str, NDArray[np.float64]] = {name: read_off(table, name) for name in READ_OFF}
    for name in OTHERS:
        if name not in missing:
            found[name] = candidates(name).spans.uncertainty.astype(np.float64)
    return EstimatedCandidates(table=table, uncertainty=found)


def read_off(table: CandidateTable, estimate: Uncertainty) -> NDArray[np.float64]:
    """An estimate of `READ_OFF` from what candidates already say.

    As in `Recognizer`, `confidence` of a predicted candidate is what its own label lacks of 1, also
    where belief made another class more probable.

    Returns:
        As float32 has it. Shape (N,).
    """
    spans = table.spans
    probs = torch.from_numpy(spans.probs)
    match estimate:
        case "entropy":
            values = predictive_entropy(probs).numpy()
        case "margin":
            values = margin(probs).numpy()
        case _:
            values = least_confidence(probs).numpy()
            rows = np.flatnonzero(table.predicted)
            values[rows] = 1.0 - spans.probs[rows, spans.label[rows]]
    return values.astype(np.float64)
