"""Which near misses are worth being candidates, decided on dev.

Letters: N spans, C classes with non-entity first.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from linkner_ray.spanner.decoding import NearMissRules, choose_rows, near_miss_ranks
from linkner_ray.spanner.span_table import SpanTable

FLOORS = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.015, 0.01)
MOST_SPANS = (1, 2, 3, 4, 6)
CERTAIN_CONFIDENCES = (0.9, 0.95, 0.98, 0.99, 0.995)

MAX_EXTRA_SHARE = 0.4
"""Near misses for each predicted entity of dev at most; text unlike dev has more, up to twice as
many on CoNLL-2003's OOV set. They cost a question only from the threshold of routing on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What candidates can still become right, and what they cost.

    Attributes:
        candidate_recall: Share of gold entities whose boundaries a candidate has, in [0, 1].
        extra_share: Near misses for each predicted one.
    """

    candidate_recall: float
    extra_share: float


def choose_near_miss_rules(
    spans: SpanTable,
    gold: NDArray[np.int64],
    *,
    num_gold: int,
    max_extra_share: float = MAX_EXTRA_SHARE,
) -> tuple[NearMissRules, Worth]:
    """Find the rules of the highest candidate recall within a share of extra candidates.

    Among rules of equal recall those of the fewest extra candidates win, then the highest floor.

    Args:
        spans: Of dev, calibrated, listed from the lowest of `FLOORS` on.
        gold: Class of each span; 0 where gold has no entity there. Shape (N,).
        num_gold: Gold entities of dev, also those no span can reach.
        max_extra_share: Near misses for each predicted one at most.
    """
    best: tuple[tuple[float, float], NearMissRules, Worth] | None = None
    for certain in CERTAIN_CONFIDENCES:
        widest = NearMissRules(
            floor=FLOORS[-1], max_spans=MOST_SPANS[-1], certain_confidence=certain
        )
        rows, predicted = choose_rows(spans, widest)
        entity = (1.0 - spans.probs[rows, 0]).astype(np.float64)
        rank = np.zeros(len(rows), dtype=np.int64)
        rank[~predicted] = near_miss_ranks(spans.take(rows[~predicted]))
        is_gold = gold[rows] > 0
        for floor, most in product(FLOORS, MOST_SPANS):
            near_misses = ~predicted & (entity >= floor) & (rank < most)
            found = Worth(
                candidate_recall=int(is_gold[predicted | near_misses].sum()) / max(1, num_gold),
                extra_share=int(near_misses.sum()) / max(1, int(predicted.sum())),
            )
            order = (found.candidate_recall, -found.extra_share)
            if found.extra_share <= max_extra_share and (best is None or order > best[0]):
                best = order, replace(widest, floor=floor, max_spans=most), found
    if best is None:  # even the strictest rules keep too many
        rules = NearMissRules(
            floor=FLOORS[0], max_spans=0, certain_confidence=CERTAIN_CONFIDENCES[0]
        )
        rows, _ = choose_rows(spans, rules)
        return rules, Worth(
            candidate_recall=int((gold[rows] > 0).sum()) / max(1, num_gold), extra_share=0.0
        )
    return best[1], best[2]
