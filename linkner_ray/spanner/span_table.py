"""Spans of many sentences in columns.

Letters: N spans, S sentences, C classes with non-entity first, F features of novelty.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.spanner.calibration.recalibration import Recalibration
from linkner_ray.spanner.tokens import IntArray, Sentences, TokenTable, runs

FloatArray = NDArray[np.float32]


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
    not_finite: IntArray

    def repeated(self, number: IntArray) -> "CandidateTable":
        """The candidates of sentences of which some are the same.

        Args:
            number: Index among the sentences of this table of each one. Shape (S,).
        """
        sentences = np.arange(number.max(initial=-1) + 1)
        first = np.searchsorted(self.spans.sentence, sentences, side="left")
        counts = np.searchsorted(self.spans.sentence, sentences, side="right") - first
        rows = runs(first[number], counts[number])
        sentence = np.repeat(np.arange(len(number)), counts[number])
        return CandidateTable(
            spans=replace(self.spans.take(rows), sentence=sentence),
            predicted=self.predicted[rows],
            not_finite=np.flatnonzero(np.isin(number, self.not_finite)),
        )


def recalibrated_probs(
    spans: SpanTable,
    sentences: Sentences,
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
    sentences: Sentences,
    classes: Sequence[str],
    novelty: NoveltyFeatures,
) -> NDArray[np.float64]:
    """Novelty features of spans under their labels. Shape (N, F)."""
    tokens = TokenTable.of(sentences).texts(spans.sentence, spans.start_token, spans.end_token)
    return novelty.features(tokens, [classes[label] for label in spans.label.tolist()])


def concatenate(parts: Sequence[SpanTable]) -> SpanTable:
    """The rows of at least one table, one after the other."""
    return SpanTable(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in SpanTable.__slots__
        }
    )
