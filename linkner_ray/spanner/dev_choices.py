"""What dev decides about a trained model: its temperature, and which spans to doubt.

Letters: N spans, C classes with non-entity first.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from linkner_ray.spanner.calibration import Calibration, apply_temperature, fit_temperature
from linkner_ray.spanner.decoding import DoubtRules
from linkner_ray.spanner.doubt import choose_doubt_rules
from linkner_ray.spanner.predict import SpanTable, choose_rows
from linkner_ray.spanner.reliability import brier_score, expected_calibration_error

LISTED_FLOOR = 0.002
"""Entity probability from which dev spans must be listed: what a temperature below 20 lifts over
the lowest floor of `doubt.FLOORS` is hardly ever less probable."""

FITTED_FLOOR = 0.05
"""Entity probability from which a dev span counts in the temperature; the many below would decide
it alone, and no one asks how sure the model is of those."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def decide_on_dev(
    spans: SpanTable, gold: IntArray, *, num_gold: int, classes: Sequence[str]
) -> Calibration:
    """Fit the temperature, choose the doubt rules, and measure what both are worth.

    Args:
        spans: Of dev, at temperature 1, listed from `LISTED_FLOOR` on.
        gold: Class of each span; 0 where gold has no entity there. Shape (N,).
        num_gold: Gold entities of dev, also those no span can reach.
        classes: Class names, non-entity first.
    """
    log_probs = np.log(np.maximum(spans.probs.astype(np.float64), 1e-30))
    fitted = 1.0 - spans.probs[:, 0] >= FITTED_FLOOR
    temperature = fit_temperature(log_probs[fitted], gold[fitted])
    calibrated = _at(spans, log_probs, temperature)
    rules, reach = choose_doubt_rules(calibrated, gold, num_gold=num_gold, classes=classes)
    before = _believed(spans, gold, classes)
    after = _believed(calibrated, gold, classes)
    return Calibration(
        temperature=temperature,
        num_spans=int(fitted.sum()),
        ece_before=expected_calibration_error(*before),
        ece_after=expected_calibration_error(*after),
        ece_held_out=expected_calibration_error(
            *_held_out(spans, log_probs, gold, fitted, classes)
        ),
        brier=brier_score(*after),
        doubted_floor=rules.floor,
        max_doubted=rules.max_spans,
        certain_confidence=rules.certain_confidence,
        reach=reach.reach,
        extra_share=reach.extra_share,
    )


def _held_out(
    spans: SpanTable,
    log_probs: FloatArray,
    gold: IntArray,
    fitted: BoolArray,
    classes: Sequence[str],
) -> tuple[FloatArray, BoolArray]:
    """Confidence and rightness of predicted entities, each half at the other half's temperature.

    The halves are the sentences of even and of odd index.
    """
    parts = []
    for half in (0, 1):
        own = spans.sentence % 2 == half
        other = fitted & ~own
        temperature = fit_temperature(log_probs[other], gold[other])
        rows = np.flatnonzero(own)
        parts.append(
            _believed(_at(spans.take(rows), log_probs[rows], temperature), gold[rows], classes)
        )
    confidence, correct = zip(*parts, strict=True)
    return np.concatenate(confidence), np.concatenate(correct)


def _at(spans: SpanTable, log_probs: FloatArray, temperature: float) -> SpanTable:
    """The spans at a temperature; their uncertainty is left as it is and not used here."""
    tempered = apply_temperature(torch.from_numpy(log_probs), temperature).exp().numpy()
    return replace(spans, probs=tempered.astype(np.float32))


def _believed(
    spans: SpanTable, gold: IntArray, classes: Sequence[str]
) -> tuple[FloatArray, BoolArray]:
    """Confidence of each predicted entity, and whether boundaries and label are right."""
    predicted_only = DoubtRules(floor=1.0, max_spans=0, certain_confidence=1.0)
    rows, _ = choose_rows(spans, classes, predicted_only)
    label = spans.label[rows]
    confidence = spans.probs[rows, label].astype(np.float64)
    return confidence, label == gold[rows]
