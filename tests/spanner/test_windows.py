from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.windows import WindowLayout, batches_under_budget, cut_sentence


def cut(counts, layout):
    return cut_sentence(np.array(counts, dtype=np.int64), layout)


def test_windows_share_the_overlap():
    windows = cut([1] * 10, WindowLayout(capacity=6, overlap=2, max_width=2))
    # tokens 0-5; the next begins two before 6; 4-9 reaches the end
    assert [window[:2] for window in windows] == [(0, 6), (4, 10)]


def test_a_span_belongs_to_the_window_where_it_is_most_central():
    first, second = cut([1] * 10, WindowLayout(capacity=6, overlap=2, max_width=2))
    # Token 4 has one token of context to its right in [0, 6) and none to its left in [4, 10);
    # token 5 has none to its right in the first and one to its left in the second.
    assert (first.owned[4, 0], second.owned[0, 0]) == (True, False)
    assert (first.owned[5, 0], second.owned[1, 0]) == (False, True)
    # The span [4, 6) touches the border of both: the earlier window answers.
    assert (first.owned[4, 1], second.owned[0, 1]) == (True, False)


layouts = st.builds(
    WindowLayout,
    capacity=st.integers(4, 12),
    overlap=st.integers(0, 3),
    max_width=st.integers(1, 5),
)


@given(lengths=st.lists(st.integers(1, 4), min_size=1, max_size=40), layout=layouts)
def test_every_span_that_fits_a_window_is_answered_exactly_once(lengths, layout):
    windows = cut(lengths, layout)
    assert all(sum(lengths[w.start : w.end]) <= layout.capacity for w in windows)
    for start, width in product(range(len(lengths)), range(1, layout.max_width + 1)):
        held = [window for window in windows if holds(window, start, width)]
        answering = [window for window in windows if answers(window, start, width)]
        assert len(answering) == bool(held)
        for window in answering:
            best = max(context(other, start, width, len(lengths)) for other in held)
            assert context(window, start, width, len(lengths)) == best


@given(lengths=st.lists(st.integers(1, 2), min_size=1, max_size=60))
def test_no_span_is_lost_where_windows_hold_twice_the_widest(lengths):
    layout = WindowLayout(capacity=20, overlap=1, max_width=5)
    windows = cut(lengths, layout)
    for start in range(len(lengths) - 4):
        assert any(holds(window, start, 5) for window in windows)


def answers(window, start, width):
    return window.start <= start < window.end and window.owned[start - window.start, width - 1]


def holds(window, start, width):
    return window.start <= start and start + width <= window.end


def context(window, start, width, num_tokens):
    left = num_tokens if window.start == 0 else start - window.start
    right = num_tokens if window.end == num_tokens else window.end - start - width
    return min(left, right)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
def test_batches_keep_the_budget_and_hold_each_item_once(lengths, budget):
    batches = batches_under_budget(np.array(lengths, dtype=np.int64), budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= budget or len(batch) == 1
