from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.subwords import SubwordSentence
from linkner_ray.spanner.windows import WindowLayout, batches_under_budget, split_windows


def sentence(lengths):
    """A sentence whose tokens have the given numbers of subwords; ids count up."""
    ends = np.cumsum(lengths)
    return SubwordSentence(ids=np.arange(sum(lengths)), first=ends - lengths, last=ends - 1)


def split(lengths, layout):
    lengths = np.array(lengths, dtype=np.int64)
    return split_windows(7, sentence(lengths), np.arange(len(lengths)), layout=layout)


def test_a_sentence_that_fits_is_one_window():
    (window,) = split([1, 2, 1], WindowLayout(capacity=4, overlap=1, max_width=2))
    assert (window.sentence, window.start_token, window.owned) == (7, 0, None)
    assert window.first.tolist() == [0, 1, 3]


def test_windows_share_the_overlap():
    windows = split([1] * 10, WindowLayout(capacity=6, overlap=2, max_width=2))
    # tokens 0-5; the next begins two before 6; 4-9 reaches the end
    assert [(w.start_token, len(w.first)) for w in windows] == [(0, 6), (4, 6)]
    assert windows[1].ids.tolist() == [4, 5, 6, 7, 8, 9]
    assert windows[1].first.tolist() == [0, 1, 2, 3, 4, 5]
    assert windows[1].morphology.tolist() == [4, 5, 6, 7, 8, 9]


def test_a_span_belongs_to_the_window_where_it_is_most_central():
    first, second = split([1] * 10, WindowLayout(capacity=6, overlap=2, max_width=2))
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
    windows = split(lengths, layout)
    assert all(len(window.ids) <= layout.capacity for window in windows)
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
    windows = split(lengths, layout)
    for start in range(len(lengths) - 4):
        assert any(holds(window, start, 5) for window in windows)


def answers(window, start, width):
    place = start - window.start_token
    if window.owned is None:
        return holds(window, start, width)
    return 0 <= place < len(window.first) and window.owned[place, width - 1]


def holds(window, start, width):
    end = window.start_token + len(window.first)
    return window.start_token <= start and start + width <= end


def context(window, start, width, num_tokens):
    end = window.start_token + len(window.first)
    left = num_tokens if window.start_token == 0 else start - window.start_token
    right = num_tokens if end == num_tokens else end - start - width
    return min(left, right)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
def test_batches_keep_the_budget_and_hold_each_item_once(lengths, budget):
    batches = batches_under_budget(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= budget or len(batch) == 1
