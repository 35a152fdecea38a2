"""Scores by novelty, length and source of entities."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa

from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.corpora.scores import Counts, Entity, counts_by, labels_by_place
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures

LONGEST = 5
"""Tokens from which all lengths are one slice."""

SEEN = ("seen", "other label", "unseen")
"""Whether training held the surface form under this label, only under others, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScore:
    """Entities of one source in the output; right are those with gold's boundaries and label."""

    num_entities: int
    num_right: int

    @property
    def precision(self) -> float:
        """Share that is right, in [0, 1]."""
        return self.num_right / self.num_entities if self.num_entities else 0.0


class SentenceTokens:
    """The tokens of documents that are a sentence each, found by character offsets.

    Args:
        sentences: Of the documents, in their order.
    """

    def __init__(self, sentences: Sequence[LabelledSentence]) -> None:
        """Lay the tokens out as `corpora.tables.corpus_documents` does, a blank between two."""
        self._tokens = [one.tokens for one in sentences]
        self._starts = [
            list(accumulate((len(token) + 1 for token in one.tokens), initial=0))
            for one in sentences
        ]

    def of(self, document: int, entity: Entity) -> tuple[str, ...]:
        """The tokens of an entity, whose boundaries are those of tokens."""
        first, after = (bisect_left(self._starts[document], place) for place in entity[:2])
        return self._tokens[document][first:after]


def by_length(
    gold: Sequence[Collection[Entity]],
    predicted: Sequence[Collection[Entity]],
    tokens: SentenceTokens,
) -> dict[str, Counts]:
    """Strict counts by number of tokens; `LONGEST` and more are one slice.

    An entity, gold or predicted, counts under its own length.
    """

    def name(document: int, entity: Entity) -> str:
        length = len(tokens.of(document, entity))
        return f"{LONGEST}+" if length >= LONGEST else str(length)

    counts = counts_by(gold, predicted, name)
    names = [*map(str, range(1, LONGEST)), f"{LONGEST}+"]
    return {one: counts.get(one, Counts()) for one in names}


def by_novelty(
    gold: Sequence[Collection[Entity]],
    predicted: Sequence[Collection[Entity]],
    tokens: SentenceTokens,
    novelty: NoveltyFeatures,
) -> dict[str, Counts]:
    """Strict counts by `SEEN`, without regard to case."""
    places = [
        (document, entity)
        for document, both in enumerate(zip(gold, predicted, strict=True))
        for entity in {*both[0], *both[1]}
    ]
    features = novelty.features(
        [tokens.of(document, entity) for document, entity in places],
        [entity[2] for _, entity in places],
    )
    seen = {
        place: SEEN[2 if unseen else 1 if elsewhere else 0]
        for place, (unseen, elsewhere, _) in zip(places, features, strict=True)
    }
    counts = counts_by(gold, predicted, lambda document, entity: seen[document, entity])
    return {one: counts.get(one, Counts()) for one in SEEN}


def by_source(
    entities: pa.ChunkedArray, gold: Sequence[Collection[Entity]]
) -> dict[str, SourceScore]:
    """Precision of the entities of each source: "local", "llm", "cache".

    Recall cannot be split by source: a missed entity has none.
    """
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for row, golden in zip(entities.to_pylist(), gold, strict=True):
        truth = set(golden)
        for entity in row:
            found[entity["source"]] += 1
            right[entity["source"]] += (entity["start"], entity["end"], entity["label"]) in truth
    return {
        source: SourceScore(num_entities=count, num_right=right[source])
        for source, count in sorted(found.items())
    }


def confusion(
    gold: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]], none: str
) -> dict[tuple[str, str], int]:
    """How often gold's label and the predicted one, or `none`, stand on the same boundaries.

    Returns:
        By (gold label, predicted label); the pair of two nones is left out.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for golden, found in zip(gold, predicted, strict=True):
        truth, ours = labels_by_place(golden), labels_by_place(found)
        for place in truth.keys() | ours.keys():
            there, here = truth.get(place, set()), ours.get(place, set())
            counts.update((label, label) for label in there & here)
            # One of several labels on the same boundaries is confused with the next in order.
            wrong, missing = sorted(here - there), sorted(there - here)
            length = max(len(wrong), len(missing))
            wrong += [none] * (length - len(wrong))
            missing += [none] * (length - len(missing))
            counts.update(zip(missing, wrong, strict=True))
    return dict(counts)
