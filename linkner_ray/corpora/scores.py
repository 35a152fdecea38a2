"""Strict entity scores: predicted is right if start, end and label are all those of gold.

Computed from offsets by set arithmetic, so nested entities score as well as flat ones and no tags
are made on the way. What is divided by zero is 0.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Entity = tuple[int, int, str]
"""Start, end, label; half-open offsets of any unit, the same in gold and predicted."""


def labels_by_place(entities: Iterable[Entity]) -> dict[tuple[int, int], set[str]]:
    """The labels that the entities of a document have at each start and end."""
    places: dict[tuple[int, int], set[str]] = {}
    for start, end, label in entities:
        places.setdefault((start, end), set()).add(label)
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How predicted entities compare with gold."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def support(self) -> int:
        """Gold entities."""
        return self.true_positives + self.false_negatives

    @property
    def num_predicted(self) -> int:
        """Predicted entities."""
        return self.true_positives + self.false_positives

    @property
    def precision(self) -> float:
        """Share of predicted entities that are gold, in [0, 1]."""
        return _ratio(self.true_positives, self.num_predicted)

    @property
    def recall(self) -> float:
        """Share of gold entities that were predicted, in [0, 1]."""
        return _ratio(self.true_positives, self.support)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]."""
        return _ratio(2 * self.true_positives, self.support + self.num_predicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroAverage:
    """Means over labels, each label weighing the same; `f1` is the mean of the labels' F1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one comparison of predicted with gold."""

    by_label: Mapping[str, Counts]
    """Every label that gold or predicted uses, in alphabetical order."""

    @property
    def micro(self) -> Counts:
        """All labels together; its F1 is the one usually reported."""
        return Counts(
            true_positives=sum(counts.true_positives for counts in self.by_label.values()),
            false_positives=sum(counts.false_positives for counts in self.by_label.values()),
            false_negatives=sum(counts.false_negatives for counts in self.by_label.values()),
        )

    @property
    def macro(self) -> MacroAverage:
        """Mean over the labels that gold or predicted uses."""
        return MacroAverage(
            precision=_mean([counts.precision for counts in self.by_label.values()]),
            recall=_mean([counts.recall for counts in self.by_label.values()]),
            f1=_mean([counts.f1 for counts in self.by_label.values()]),
        )


def score_entities(
    gold: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]
) -> Scores:
    """Compare predicted entities with gold, document by document.

    An entity given twice in a document counts once. Gold entities that a model cannot reach, such
    as those wider than its maximum, stay in gold and count as missed.

    Raises:
        ValueError: If the numbers of documents differ.
    """
    if len(gold) != len(predicted):
        raise ValueError(
            f"gold has {len(gold)} documents and predicted {len(predicted)}; both need one "
            "collection for each document, empty where there are no entities"
        )
    return Scores(counts_by(gold, predicted, lambda _, entity: entity[2]))


def counts_by(
    gold: Sequence[Collection[Entity]],
    predicted: Sequence[Collection[Entity]],
    name: Callable[[int, Entity], str],
) -> dict[str, Counts]:
    """Strict counts of the entities of each name, in alphabetical order."""
    found: Counter[str] = Counter()
    invented: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for document, (golden, ours) in enumerate(zip(gold, predicted, strict=True)):
        truth, here = _distinct(golden), _distinct(ours)
        found.update(name(document, entity) for entity in truth & here)
        invented.update(name(document, entity) for entity in here - truth)
        missed.update(name(document, entity) for entity in truth - here)
    return {
        one: Counts(
            true_positives=found[one], false_positives=invented[one], false_negatives=missed[one]
        )
        for one in sorted({*found, *invented, *missed})
    }


def document_counts(
    gold: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]
) -> NDArray[np.int64]:
    """Strict true positives, false positives and false negatives of each of D documents.

    Returns:
        Shape (D, 3); the columns sum to those of `score_entities`.
    """
    rows = []
    for gold_document, predicted_document in zip(gold, predicted, strict=True):
        gold_entities, predicted_entities = _distinct(gold_document), _distinct(predicted_document)
        found = len(gold_entities & predicted_entities)
        rows.append((found, len(predicted_entities) - found, len(gold_entities) - found))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _distinct(entities: Collection[Entity]) -> set[Entity]:
    return {(start, end, label) for start, end, label in entities}


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
