"""From span probabilities to candidates: what the model says, and its near misses.

Gold labels have no way in: a span becomes a candidate by its own probabilities alone.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from linkner_ray.spans import RankedSpan, keep_flat


class ScoredSpan(NamedTuple):
    """A span that may matter: its best label is not far behind, or won.

    Attributes:
        start_token: First token.
        end_token: Token after the last.
        label: Most probable label that is not non-entity.
        probability: Of that label.
        entity_probability: Of all labels together.
        is_entity: Whether that label is more probable than non-entity.
    """

    start_token: int
    end_token: int
    label: str
    probability: float
    entity_probability: float
    is_entity: bool


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


class Choice(NamedTuple):
    """Indices of the chosen spans of a sentence, each list by position."""

    predicted: list[int]
    near_misses: list[int]


def choose_candidates(spans: Sequence[ScoredSpan], rules: NearMissRules) -> Choice:
    """Choose the predicted entities and the near misses of one sentence.

    Predicted are the entities that flat decoding keeps. A near miss is a span that lost, to
    non-entity or to another boundary, though its entity probability reaches the floor; it may
    overlap a predicted entity that is itself uncertain, never a certain one. Both depend on the
    spans only, not on their order.

    Args:
        spans: Scored spans of one sentence, in any order.
        rules: What makes a near miss.
    """
    winners = [index for index, span in enumerate(spans) if span.is_entity]
    ranked = [
        RankedSpan(s.start_token, s.end_token, s.label, (s.probability,))
        for s in map(spans.__getitem__, winners)
    ]
    predicted = [winners[index] for index in keep_flat(ranked)]
    certain = [
        spans[index] for index in predicted if spans[index].probability >= rules.certain_confidence
    ]
    certain_starts = [span.start_token for span in certain]
    kept = set(predicted)
    near_misses = [
        index
        for index, span in enumerate(spans)
        if index not in kept
        and span.entity_probability >= rules.floor
        and not _overlaps_any(span, certain, certain_starts)
    ]
    near_misses.sort(key=lambda index: _near_miss_preference(spans[index]))
    return Choice(
        predicted,
        sorted(near_misses[: rules.max_spans], key=lambda index: spans[index][:2]),
    )


def _overlaps_any(span: ScoredSpan, others: Sequence[ScoredSpan], starts: Sequence[int]) -> bool:
    """Whether a span overlaps one of others, which are flat and by position.

    Only the last that begins before the span's end can. All pairs would take minutes for a sentence
    with thousands of spans.
    """
    place = bisect_left(starts, span.end_token)
    return place > 0 and others[place - 1].end_token > span.start_token


def _near_miss_preference(span: ScoredSpan) -> tuple[float, int, int, str]:
    """Sort key under which the likeliest comes first."""
    width = span.end_token - span.start_token
    return (-span.entity_probability, -width, span.start_token, span.label)
