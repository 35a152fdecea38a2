"""Scores under four kinds of match: strict, by boundaries, by label, partial.

The kinds are those of SemEval-2013 task 9 (Segura-Bedmar et al.). Within a document gold and
predicted entities are paired one to one, as many as possible. Predicted entities of a document do
not overlap one another; gold ones may.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from linkner_ray.corpora.scores import Entity

KINDS = ("strict", "boundaries", "label", "partial")
"""strict: boundaries and label; boundaries: whatever the label; label: that of an entity which it
overlaps; partial: any overlap, which counts half unless the boundaries are right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchScore:
    """Predicted entities held against gold under one kind of match."""

    credit: float
    """Sum over pairs, 1 or 0.5 each."""

    num_gold: int
    num_predicted: int

    @property
    def precision(self) -> float:
        """Credit for each predicted entity, in [0, 1]."""
        return self.credit / self.num_predicted if self.num_predicted else 0.0

    @property
    def recall(self) -> float:
        """Credit for each gold entity, in [0, 1]."""
        return self.credit / self.num_gold if self.num_gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]."""
        total = self.num_gold + self.num_predicted
        return 2 * self.credit / total if total else 0.0


def match_scores(
    gold: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]
) -> dict[str, MatchScore]:
    """Score the entities of each document under each of `KINDS`; `strict` as `score_entities`."""
    pairs = [(set(g), set(p)) for g, p in zip(gold, predicted, strict=True)]
    num_gold = sum(len(g) for g, _ in pairs)
    num_predicted = sum(len(p) for _, p in pairs)
    credit = dict.fromkeys(KINDS, 0.0)
    for golden, found in pairs:
        credit["strict"] += len(golden & found)
        # Equal boundaries are paired first: such a pair counts twice as much as another.
        left, over = _elsewhere(golden, found), _elsewhere(found, golden)
        exact = len(found) - len(over)
        credit["boundaries"] += exact
        credit["partial"] += exact + 0.5 * len(_pairs(left, over))
        credit["label"] += sum(
            len(_pairs(_of_label(golden, label), _of_label(found, label)))
            for label in {one[2] for one in golden}
        )
    return {
        kind: MatchScore(credit=credit[kind], num_gold=num_gold, num_predicted=num_predicted)
        for kind in KINDS
    }


def matches_by_label(
    gold: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]
) -> dict[str, dict[str, MatchScore]]:
    """The same for each label: gold of the label against what was predicted as it.

    Under `boundaries` gold of the label is held against all that was predicted, so its recall is
    the share of these entities whose boundaries were found, whatever they were called.
    """
    labels = sorted({e[2] for side in (gold, predicted) for document in side for e in document})
    found = {}
    for label in labels:
        golden, ours = _only(gold, label), _only(predicted, label)
        found[label] = match_scores(golden, ours)
        found[label]["boundaries"] = match_scores(golden, predicted)["boundaries"]
    return found


def boundary_errors(
    gold: Collection[Entity], predicted: Collection[Entity]
) -> list[tuple[Entity, Entity]]:
    """Pairs of a gold and a predicted entity that overlap with other boundaries, by position.

    Entities whose boundaries are right are left out on both sides.
    """
    return _pairs(_elsewhere(gold, predicted), _elsewhere(predicted, gold))


def _only(documents: Sequence[Collection[Entity]], label: str) -> list[list[Entity]]:
    return [_of_label(document, label) for document in documents]


def _of_label(entities: Collection[Entity], label: str) -> list[Entity]:
    return [entity for entity in entities if entity[2] == label]


def _elsewhere(entities: Collection[Entity], others: Collection[Entity]) -> list[Entity]:
    """Entities whose boundaries none of the others has."""
    places = {other[:2] for other in others}
    return [entity for entity in entities if entity[:2] not in places]


def _pairs(gold: Collection[Entity], predicted: Collection[Entity]) -> list[tuple[Entity, Entity]]:
    """A maximum matching of entities that overlap, by position of gold.

    Predicted entities do not overlap one another, so those that overlap a gold entity are
    neighbours. From left to right, each is paired with the overlapping gold entity that overlaps
    no predicted entity, or the fewest, further to the right.

    Reference:
        Glover (1967), Maximum matching in a convex bipartite graph.
    """
    golden, found = sorted(gold), sorted(predicted)
    starts = [one[0] for one in found]
    pairs: list[tuple[Entity, Entity]] = []
    waiting: list[tuple[int, Entity]] = []  # index of the last one that each overlaps
    num_seen = 0
    for index, one in enumerate(found):
        while num_seen < len(golden) and golden[num_seen][0] < one[1]:
            last = bisect_left(starts, golden[num_seen][1]) - 1
            heappush(waiting, (last, golden[num_seen]))
            num_seen += 1
        while waiting and waiting[0][0] < index:
            heappop(waiting)
        if waiting:
            pairs.append((heappop(waiting)[1], one))
    return sorted(pairs)
