"""Spans of many sentences in columns, and the choice of candidates among them.

Letters: N spans, C classes with non-entity first, F features of novelty.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from linkner_ray.config import RecognizeConfig
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.spanner.calibration.recalibration import Recalibration
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.decoding import NearMissRules, ScoredSpan, choose_candidates

UNCHOSEN = NearMissRules(floor=0.1, max_spans=3, certain_confidence=0.95)
"""Rules for a checkpoint that has none."""

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanTable:
    """Spans of many sentences in columns, by sentence, then position.

    Attributes:
        sentence: Index of the sentence. Shape (N,).
        start_token: Shape (N,).
        end_token: Shape (N,).
        probs: Class probabilities. Shape (N, C).
        uncertainty: In [0, 1]. Shape (N,).
    """

    sentence: IntArray
    start_token: IntArray
    end_token: IntArray
    probs: FloatArray
    uncertainty: FloatArray

    @property
    def label(self) -> IntArray:
        """Class of the most probable label that is not non-entity. Shape (N,)."""
        return 1 + self.probs[:, 1:].argmax(axis=1)

    def take(self, rows: IntArray) -> "SpanTable":
        """The given rows, in that order."""
        return SpanTable(
            sentence=self.sentence[rows],
            start_token=self.start_token[rows],
            end_token=self.end_token[rows],
            probs=self.probs[rows],
            uncertainty=self.uncertainty[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTable:
    """Candidates of many sentences in columns.

    Attributes:
        spans: By sentence, then position.
        predicted: Whether the model calls it an entity; otherwise it is a near miss. Shape (N,).
        not_finite: Sentences with a span for which the model computed NaN or an infinity.
    """

    spans: SpanTable
    predicted: NDArray[np.bool_]
    not_finite: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def recalibrated_probs(
    spans: SpanTable,
    sentences: Sequence[Sequence[str]],
    classes: Sequence[str],
    recalibration: Recalibration,
    novelty: NoveltyFeatures,
) -> FloatArray:
    """Probabilities of predicted spans, recalibrated; labels stay. Shape (N, C)."""
    strangeness = strangeness_of(spans, sentences, classes, novelty)
    recalibrated = recalibration.apply(spans.probs.astype(np.float64), spans.label, strangeness)
    return recalibrated.astype(np.float32)


def strangeness_of(
    spans: SpanTable,
    sentences: Sequence[Sequence[str]],
    classes: Sequence[str],
    novelty: NoveltyFeatures,
) -> NDArray[np.float64]:
    """Novelty features of spans under their labels. Shape (N, F)."""
    columns = (spans.sentence, spans.start_token, spans.end_token)
    places = zip(*(column.tolist() for column in columns), strict=True)
    tokens = [sentences[sentence][start:end] for sentence, start, end in places]
    return novelty.features(tokens, [classes[label] for label in spans.label.tolist()])


def concatenate(parts: Sequence[SpanTable]) -> SpanTable:
    """The rows of at least one table, one after the other."""
    return SpanTable(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in SpanTable.__slots__
        }
    )


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


def choose_rows(
    spans: SpanTable, classes: Sequence[str], rules: NearMissRules
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Choose candidates sentence by sentence; a sentence without spans costs nothing.

    Args:
        spans: By sentence, as `Recognizer.spans` gives them.
        classes: Class names, non-entity first.
        rules: What makes a near miss.

    Returns:
        Row numbers of the candidates, and whether each is predicted.
    """
    entity = 1.0 - spans.probs[:, 0]
    best = spans.probs[:, 1:].max(axis=1, initial=0.0)
    columns = zip(
        spans.start_token.tolist(),
        spans.end_token.tolist(),
        [classes[label] for label in spans.label.tolist()],
        best.tolist(),
        entity.tolist(),
        (best > spans.probs[:, 0]).tolist(),
        strict=True,
    )
    scored = [ScoredSpan(*row) for row in columns]
    bounds = np.flatnonzero(np.diff(spans.sentence, prepend=-1, append=-1)).tolist()
    rows: list[int] = []
    predicted: list[bool] = []
    for start, end in pairwise(bounds):
        choice = choose_candidates(scored[start:end], rules)
        kept = set(choice.predicted)
        for index in sorted((*choice.predicted, *choice.near_misses)):
            rows.append(start + index)
            predicted.append(index in kept)
    return np.array(rows, dtype=np.int64), np.array(predicted, dtype=np.bool_)
