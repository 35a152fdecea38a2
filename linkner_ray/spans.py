"""Half-open spans and the rule by which overlapping ones are resolved."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple


class RankedSpan(NamedTuple):
    """A labelled half-open span with its rank among rivals.

    Attributes:
        start: First position, in tokens or code points.
        end: Position after the last.
        label: Label id; breaks ties last.
        rank: What to prefer, larger first; compared as a tuple, so a rank can have levels.
    """

    start: int
    end: int
    label: str
    rank: tuple[float, ...]


def keep_flat(spans: Sequence[RankedSpan]) -> list[int]:
    """Keep the best spans that do not overlap.

    Greedy, from the best rank down. Ties go to the longer span, then the earlier one, then the
    label in alphabetical order, so the answer does not depend on the order of the input. Spans
    that only touch both stay.

    Args:
        spans: Spans of one text, in any order.

    Returns:
        Indices of the kept spans, by position in the text.

    Reference:
        Fu et al. (2021), SpanNER, heuristic decoding for flat NER.
    """
    order = sorted(range(len(spans)), key=lambda index: _preference(spans[index]))
    starts: list[int] = []  # kept spans by position; they never overlap, so ends are sorted too
    kept: list[int] = []
    for index in order:
        span = spans[index]
        place = bisect_left(starts, span.start)
        overlaps_left = place > 0 and spans[kept[place - 1]].end > span.start
        overlaps_right = place < len(kept) and starts[place] < span.end
        if not overlaps_left and not overlaps_right:
            starts.insert(place, span.start)
            kept.insert(place, index)
    return kept


def _preference(span: RankedSpan) -> tuple[tuple[float, ...], int, int, str]:
    """Sort key under which the span to keep comes first."""
    return (tuple(-level for level in span.rank), span.start - span.end, span.start, span.label)
