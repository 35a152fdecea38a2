"""From span probabilities to candidates: what the model says, and its near misses.

Gold labels have no way in: a span becomes a candidate by its own probabilities alone.

Letters: N spans.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linkner_ray.config import RecognizeConfig
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.span_table import SpanTable
from linkner_ray.spanner.tokens import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMissRules:
    """Which losing spans are candidates all the same."""

    floor: float
    """Entity probability a near miss needs."""

    max_spans: int
    """Near misses of a sentence, the most probable first."""

    certain_confidence: float
    """A predicted entity from this confidence on tolerates no near miss over it."""


PREDICTED_ONLY = NearMissRules(floor=1.0, max_spans=0, certain_confidence=1.0)

UNCHOSEN = NearMissRules(floor=0.1, max_spans=3, certain_confidence=0.95)
"""Rules for a checkpoint that has none."""


def near_miss_rules(config: RecognizeConfig, calibration: Calibration) -> NearMissRules:
    """The rules of a run: what its config says, else what dev chose, else `UNCHOSEN`."""

    def first(*values: float | None) -> float:
        return next(value for value in values if value is not None)

    return NearMissRules(
        floor=first(config.near_miss_floor, calibration.near_miss_floor, UNCHOSEN.floor),
        max_spans=int(
            first(config.max_near_misses, calibration.max_near_misses, UNCHOSEN.max_spans)
        ),
        certain_confidence=first(
            config.certain_confidence, calibration.certain_confidence, UNCHOSEN.certain_confidence
        ),
    )


def choose_rows(spans: SpanTable, rules: NearMissRules) -> tuple[IntArray, NDArray[np.bool_]]:
    """Choose the predicted entities and the near misses of each sentence.

    Predicted are the entities that flat decoding keeps: from the most probable down, of equal ones
    the longer and then the earlier first, each that overlaps none before it. A near miss is a span
    that lost, to non-entity or to another boundary, though its entity probability reaches the
    floor; it may overlap a predicted entity that is itself uncertain, never a certain one.

    Args:
        spans: By sentence, then position, each once.
        rules: What makes a near miss.

    Returns:
        Row numbers of the candidates, and whether each is predicted.

    Reference:
        Fu et al. (2021), SpanNER, heuristic decoding for flat NER.
    """
    start, end, num_places = _places(spans)
    best = spans.probs[:, 1:].max(axis=1, initial=0.0)
    winners = np.flatnonzero(best > spans.probs[:, 0])
    winners = winners[np.lexsort((start[winners], (start - end)[winners], -best[winners]))]
    taken = bytearray(num_places)
    kept = []
    columns = (column.tolist() for column in (winners, start[winners], end[winners]))
    for row, begins, ends in zip(*columns, strict=True):
        if taken.find(1, begins, ends) < 0:
            taken[begins:ends] = b"\1" * (ends - begins)
            kept.append(row)
    predicted = np.zeros(len(best), dtype=np.bool_)
    predicted[kept] = True

    certain = predicted & (best.astype(np.float64) >= rules.certain_confidence)
    borders = np.zeros(num_places + 1, dtype=np.int64)
    borders[start[certain]] += 1
    borders[end[certain]] -= 1
    places_before = np.concatenate([[0], np.cumsum(np.cumsum(borders))])
    is_free = places_before[start] == places_before[end]
    entity = (1.0 - spans.probs[:, 0]).astype(np.float64)
    near_misses = np.flatnonzero(~predicted & (entity >= rules.floor) & is_free)
    near_misses = near_misses[near_miss_ranks(spans.take(near_misses)) < rules.max_spans]
    rows = np.sort(np.concatenate([np.flatnonzero(predicted), near_misses]))
    return rows, predicted[rows]


def near_miss_ranks(spans: SpanTable) -> IntArray:
    """Place of each near miss among those of its sentence, the likeliest 0. Shape (N,)."""
    width = spans.end_token - spans.start_token
    order = np.lexsort((spans.start_token, -width, spans.probs[:, 0] - 1.0, spans.sentence))
    sentence = spans.sentence[order]
    ranks = np.zeros(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(sentence, sentence, side="left")
    return ranks


def _places(spans: SpanTable) -> tuple[IntArray, IntArray, int]:
    """Starts and ends on one line on which sentences follow each other, and its length."""
    if not len(spans.sentence):
        return spans.start_token, spans.end_token, 0
    is_first = np.diff(spans.sentence, prepend=-1) > 0
    lengths = np.maximum.reduceat(spans.end_token, np.flatnonzero(is_first))
    before = (np.cumsum(lengths) - lengths)[np.cumsum(is_first) - 1]
    return before + spans.start_token, before + spans.end_token, int(lengths.sum())
