"""Long sentences in overlapping windows, and batches of windows of like length.

Letters: N windows, T tokens of a sentence, W widths.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from linkner_ray.spanner.tokens import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLayout:
    """How long sentences are cut.

    Attributes:
        capacity: Subwords a window holds, special tokens not counted.
        overlap: Subwords that neighbouring windows share at least.
        max_width: W, widest span in tokens.
    """

    capacity: int
    overlap: int
    max_width: int


class Window(NamedTuple):
    """A run of tokens of one sentence.

    Attributes:
        start: First token of the sentence that it holds.
        end: Token after the last.
        owned: Whether the window answers for the span of tokens [start + t, start + t + w + 1).
            Shape (end - start, W).
    """

    start: int
    end: int
    owned: NDArray[np.bool_]


def cut_sentence(counts: IntArray, layout: WindowLayout) -> list[Window]:
    """Cut a sentence into windows; each span belongs to the window where it is most central.

    A span wider than any window can hold belongs to none. Neighbouring windows share at least
    `max_width` - 1 tokens where they hold more than that, so this takes tokens of many subwords.

    Args:
        counts: Subwords of each token; no more than a window holds. Shape (T,).
        layout: How large windows are, and how they overlap.
    """
    bounds = list(_window_bounds(counts, layout))
    owner = _owners(bounds, len(counts), layout.max_width)
    return [
        Window(start, end, owner[start:end] == place) for place, (start, end) in enumerate(bounds)
    ]


def batches_under_budget(lengths: IntArray, budget: int) -> list[IntArray]:
    """Group items of like length so that no padded batch exceeds a budget.

    Args:
        lengths: Length of each item in subwords, special tokens included. Shape (N,).
        budget: Items in a batch times its longest length; a longer item goes alone.

    Returns:
        Indices, batch by batch, the longest first.
    """
    order = np.argsort(-lengths, kind="stable")
    batches: list[IntArray] = []
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def _window_bounds(counts: IntArray, layout: WindowLayout) -> Iterator[tuple[int, int]]:
    """Half-open token ranges that cover the sentence."""
    through = np.cumsum(counts)
    first = through - counts
    start = 0
    while True:
        end = int(np.searchsorted(through, first[start] + layout.capacity, side="right"))
        yield start, end
        if end == len(counts):
            return
        by_overlap = int(np.searchsorted(first, first[end] - layout.overlap, side="right")) - 1
        start = max(start + 1, min(by_overlap, end - layout.max_width + 1))


def _owners(bounds: list[tuple[int, int]], num_tokens: int, max_width: int) -> IntArray:
    """Window of each span: the one that leaves it most context on its poorer side.

    The beginning and the end of the sentence count as unlimited context. Ties go to the earlier
    window; -1 marks a span that no window holds.

    Returns:
        Index into `bounds`. Shape (T, W).
    """
    widths = np.arange(1, max_width + 1)
    best = np.full((num_tokens, max_width), -1, dtype=np.int64)
    owner = np.full((num_tokens, max_width), -1, dtype=np.int64)
    for place, (start, end) in enumerate(bounds):
        starts = np.arange(start, end)[:, None]
        left = np.where(start == 0, num_tokens, starts - start)
        room = end - (starts + widths)
        right = np.where((end == num_tokens) & (room >= 0), num_tokens, room)
        context = np.where(right >= 0, np.minimum(left, right), -1)
        better = context > best[start:end]
        best[start:end][better] = context[better]
        owner[start:end][better] = place
    return owner
