"""What dev decides about a trained model: temperature, recalibration, and the near-miss rules.

Letters: N spans, C classes with non-entity first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from linkner_ray.spanner.calibration.near_misses import FLOORS, choose_near_miss_rules
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.spanner.calibration.recalibration import Recalibration, fit_recalibration
from linkner_ray.spanner.calibration.reliability import brier_score, expected_calibration_error
from linkner_ray.spanner.calibration.temperature import (
    Calibration,
    apply_temperature,
    fit_temperature,
)
from linkner_ray.spanner.decoding import PREDICTED_ONLY, choose_rows
from linkner_ray.spanner.span_table import SpanTable, recalibrated_probs, strangeness_of

LISTED_FLOOR = 1e-4
"""Entity probability from which dev spans must be listed: the lowest floor of
`near_misses.FLOORS` at a temperature of 2 comes from there."""

FITTED_FLOOR = 0.05
"""Entity probability from which a dev span counts in the temperature; the many below it would
decide it alone."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dev:
    """A labelled set as a model sees it, at temperature 1.

    Attributes:
        sentences: Tokens of each.
        spans: Listed from `LISTED_FLOOR` on. N rows.
        gold: Class of each span; 0 where gold has no entity there. Shape (N,).
        num_gold: Gold entities, also those no span can reach.
    """

    sentences: Sequence[Sequence[str]]
    spans: SpanTable
    gold: IntArray
    num_gold: int

    def half(self, parity: int) -> "Dev":
        """The spans of every second sentence; `num_gold` stays that of all."""
        rows = np.flatnonzero(self.spans.sentence % 2 == parity)
        return replace(self, spans=self.spans.take(rows), gold=self.gold[rows])


def decide_on_dev(
    dev: Dev, *, classes: Sequence[str], novelty: NoveltyFeatures | None = None
) -> Calibration:
    """Fit temperature and recalibration, choose the near-miss rules, and measure their worth.

    Without what training held, `novelty`, no recalibration is fitted.
    """
    temperature, num_spans = _temperature(dev)
    calibrated = _calibrated(dev, temperature)
    recalibration = _recalibration(calibrated, classes, novelty)
    rules, worth = choose_near_miss_rules(calibrated.spans, calibrated.gold, num_gold=dev.num_gold)
    after = _recalibrated(calibrated, classes, recalibration, novelty)
    return Calibration(
        temperature=temperature,
        num_spans=num_spans,
        ece_before=expected_calibration_error(*_recalibrated(dev, classes, None, None)),
        ece_after=expected_calibration_error(*after),
        ece_held_out=expected_calibration_error(*_held_out(dev, classes, novelty)),
        brier=brier_score(*after),
        near_miss_floor=rules.floor,
        max_near_misses=rules.max_spans,
        certain_confidence=rules.certain_confidence,
        candidate_recall=worth.candidate_recall,
        extra_share=worth.extra_share,
        recalibration=recalibration,
    )


def _temperature(dev: Dev) -> tuple[float, int]:
    """The temperature, and how many spans it was fitted on."""
    fitted = np.flatnonzero(1.0 - dev.spans.probs[:, 0] >= FITTED_FLOOR)
    return fit_temperature(_log(dev.spans.probs[fitted]), dev.gold[fitted]), len(fitted)


def _calibrated(dev: Dev, temperature: float) -> Dev:
    """The spans that still matter at a temperature; their uncertainty is not used here."""
    tempered = apply_temperature(torch.from_numpy(_log(dev.spans.probs)), temperature)
    probs = tempered.exp().numpy().astype(np.float32)
    rows = np.flatnonzero(1.0 - probs[:, 0] >= FLOORS[-1])
    spans = replace(dev.spans, probs=probs).take(rows)
    return replace(dev, spans=spans, gold=dev.gold[rows])


def _predicted(dev: Dev) -> tuple[SpanTable, IntArray]:
    """The entities that flat decoding keeps, and their gold."""
    rows, _ = choose_rows(dev.spans, PREDICTED_ONLY)
    return dev.spans.take(rows), dev.gold[rows]


def _recalibration(
    calibrated: Dev, classes: Sequence[str], novelty: NoveltyFeatures | None
) -> Recalibration | None:
    if novelty is None:
        return None
    spans, gold = _predicted(calibrated)
    strangeness = strangeness_of(spans, calibrated.sentences, classes, novelty)
    return fit_recalibration(
        spans.probs.astype(np.float64), spans.label, strangeness, gold == spans.label
    )


def _recalibrated(
    dev: Dev,
    classes: Sequence[str],
    recalibration: Recalibration | None,
    novelty: NoveltyFeatures | None,
) -> tuple[FloatArray, BoolArray]:
    """Confidence of each predicted entity, and whether boundaries and label are right."""
    spans, gold = _predicted(dev)
    probs = spans.probs
    if recalibration is not None and novelty is not None:
        probs = recalibrated_probs(spans, dev.sentences, classes, recalibration, novelty)
    confidence = probs[np.arange(len(probs)), spans.label].astype(np.float64)
    return confidence, spans.label == gold


def _held_out(
    dev: Dev, classes: Sequence[str], novelty: NoveltyFeatures | None
) -> tuple[FloatArray, BoolArray]:
    """Confidence and rightness of predicted entities, each half by what the other half decides.

    The halves are the sentences of even and of odd index.
    """
    parts = []
    for parity in (0, 1):
        own, other = dev.half(parity), dev.half(1 - parity)
        temperature, _ = _temperature(other)
        recalibration = _recalibration(_calibrated(other, temperature), classes, novelty)
        parts.append(_recalibrated(_calibrated(own, temperature), classes, recalibration, novelty))
    confidence, correct = zip(*parts, strict=True)
    return np.concatenate(confidence), np.concatenate(correct)


def _log(probs: NDArray[np.float32]) -> FloatArray:
    return np.log(np.maximum(probs.astype(np.float64), 1e-30))
