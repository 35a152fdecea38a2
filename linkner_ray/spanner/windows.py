"""Long sentences in overlapping windows, and batches of windows of like length.

Letters: L subwords and T tokens of a window, W widths.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linkner_ray.spanner.subwords import IntArray, SubwordSentence


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A run of tokens of one sentence that fits the encoder.

    Attributes:
        sentence: Index of the sentence.
        start_token: Position in the sentence of the window's first token.
        ids: Subwords, special tokens left out. Shape (L,).
        first: Position in `ids` of each token's first subword. Shape (T,).
        last: Position in `ids` of each token's last subword. Shape (T,).
        morphology: Class of each token. Shape (T,).
        owned: Whether this window answers for the span that starts at t and is w + 1 wide; None
            for the only window of a sentence, which answers for all. Shape (T, W).
    """

    sentence: int
    start_token: int
    ids: IntArray
    first: IntArray
    last: IntArray
    morphology: IntArray
    owned: NDArray[np.bool_] | None


def split_windows(
    index: int,
    sentence: SubwordSentence,
    morphology: IntArray,
    *,
    layout: WindowLayout,
) -> list[Window]:
    """Cut a sentence into windows; each span belongs to the window where it is most central.

    A span wider than any window can hold belongs to none. Neighbouring windows share at least
    `max_width` - 1 tokens where they hold more than that, so this takes tokens of many subwords.

    Args:
        index: Index of the sentence, kept in the windows.
        sentence: Its subwords; no token has more of them than a window holds.
        morphology: Class of each token. Shape (T,).
        layout: How large windows are, and how they overlap.
    """
    num_tokens = len(sentence.first)
    if not num_tokens:
        return []
    if len(sentence.ids) <= layout.capacity:
        return [
            Window(
                sentence=index,
                start_token=0,
                ids=sentence.ids,
                first=sentence.first,
                last=sentence.last,
                morphology=morphology,
                owned=None,
            )
        ]
    bounds = list(_window_bounds(sentence, layout))
    owner = _owners(bounds, num_tokens, layout.max_width)
    windows = []
    for place, (start, end) in enumerate(bounds):
        first_id, last_id = int(sentence.first[start]), int(sentence.last[end - 1]) + 1
        windows.append(
            Window(
                sentence=index,
                start_token=start,
                ids=sentence.ids[first_id:last_id],
                first=sentence.first[start:end] - first_id,
                last=sentence.last[start:end] - first_id,
                morphology=morphology[start:end],
                owned=owner[start:end] == place,
            )
        )
    return windows


def batches_under_budget(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group items of like length so that no padded batch exceeds a budget.

    Args:
        lengths: Length of each item in subwords, special tokens included.
        budget: Items in a batch times its longest length; a longer item goes alone.

    Returns:
        Indices, batch by batch, the longest first.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def _window_bounds(sentence: SubwordSentence, layout: WindowLayout) -> Iterator[tuple[int, int]]:
    """Half-open token ranges that cover the sentence."""
    num_tokens = len(sentence.first)
    start = 0
    while True:
        room = sentence.first[start] + layout.capacity
        end = int(np.searchsorted(sentence.last, room, side="left"))
        yield start, end
        if end == num_tokens:
            return
        shared = sentence.first[end] - layout.overlap
        by_overlap = int(np.searchsorted(sentence.first, shared, side="right")) - 1
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
