"""How nearly a predicted entity is a gold one: strict, by boundaries, by label, in part.

The four kinds are those of SemEval-2013 task 9 (Segura-Bedmar et al.), paired one to one. Within a
document an entity of either side has at most one partner, and as many find one as can.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from linkner_ray.evaluation.scores import Entity

KINDS = ("strict", "boundaries", "label", "partial")
"""strict: boundaries and label; boundaries: whatever the label; label: that of an entity which it
overlaps; partial: any overlap, which counts half unless the boundaries are right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchScore:
    """Predicted entities held against gold under one kind of match.

    Attributes:
        credit: Sum over pairs, 1 or 0.5 each.
        num_gold: Gold entities.
        num_predicted: Predicted entities.
    """

    credit: float
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
    """Score predicted entities under each of `KINDS`.

    Args:
        gold: Gold entities of each document.
        predicted: Predicted ones of the same documents.

    Returns:
        By kind. `strict` equals `score_entities`.
    """
    pairs = [(set(g), set(p)) for g, p in zip(gold, predicted, strict=True)]
    num_gold = sum(len(g) for g, _ in pairs)
    num_predicted = sum(len(p) for _, p in pairs)
    credit = dict.fromkeys(KINDS, 0.0)
    for golden, found in pairs:
        credit["strict"] += len(golden & found)
        exact = _pair(golden, found, _same_place)
        credit["boundaries"] += exact
        credit["label"] += _pair(golden, found, lambda a, b: _overlap(a, b) and a[2] == b[2])
        # What is right to the letter first: each such pair counts twice as much as another.
        left, over = _unpaired(golden, found)
        credit["partial"] += exact + 0.5 * _pair(left, over, _overlap)
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
    """Pairs of a gold and a predicted entity that overlap in other boundaries, by position.

    Entities whose boundaries are right on both sides are no part of it.
    """
    left, over = _unpaired(set(gold), set(predicted))
    return _pairs(left, over, _overlap)


def _only(documents: Sequence[Collection[Entity]], label: str) -> list[list[Entity]]:
    return [[entity for entity in document if entity[2] == label] for document in documents]


def _unpaired(gold: set[Entity], predicted: set[Entity]) -> tuple[set[Entity], set[Entity]]:
    """What is left of both where each pair with the same boundaries is taken out."""
    gold, predicted = set(gold), set(predicted)
    for one, other in _pairs(gold, predicted, _same_place):
        gold.discard(one)
        predicted.discard(other)
    return gold, predicted


def _pair(
    gold: set[Entity], predicted: set[Entity], matches: Callable[[Entity, Entity], bool]
) -> int:
    return len(_pairs(gold, predicted, matches))


def _pairs(
    gold: set[Entity], predicted: set[Entity], matches: Callable[[Entity, Entity], bool]
) -> list[tuple[Entity, Entity]]:
    """As many pairs as there can be, each entity in at most one, by position of gold."""
    golden, found = sorted(gold), sorted(predicted)
    taken: dict[int, int] = {}

    def place(index: int, seen: set[int]) -> bool:
        """Give a gold entity a partner, moving others to theirs if need be."""
        for other, candidate in enumerate(found):
            if other in seen or not matches(golden[index], candidate):
                continue
            seen.add(other)
            if other not in taken or place(taken[other], seen):
                taken[other] = index
                return True
        return False

    for index in range(len(golden)):
        place(index, set())
    return sorted((golden[index], found[other]) for other, index in taken.items())


def _overlap(one: Entity, other: Entity) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _same_place(one: Entity, other: Entity) -> bool:
    return one[:2] == other[:2]
