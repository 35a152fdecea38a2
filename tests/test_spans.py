from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spans import RankedSpan, keep_flat

spans = st.lists(
    st.builds(
        lambda start, width, label, rank: RankedSpan(start, start + width, label, rank),
        st.integers(0, 20),
        st.integers(1, 6),
        st.sampled_from(["LOC", "PER"]),
        st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.2, 0.5, 0.9])),
    ),
    max_size=25,
)


def kept(candidates):
    return [candidates[index] for index in keep_flat(candidates)]


def overlap(a, b):
    return a.start < b.end and b.start < a.end


@given(spans)
def test_no_two_kept_spans_overlap_and_they_are_in_order(candidates):
    assert all(a.end <= b.start for a, b in pairwise(kept(candidates)))


@given(spans)
def test_every_dropped_span_lost_to_a_kept_one_of_at_least_its_rank(candidates):
    winners = kept(candidates)
    for span in candidates:
        assert span in winners or any(overlap(w, span) and w.rank >= span.rank for w in winners)


@given(spans, st.randoms(use_true_random=False))
def test_input_order_does_not_matter(candidates, random):
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert kept(shuffled) == kept(candidates)


def test_spans_that_only_touch_both_stay():
    touching = [RankedSpan(0, 2, "PER", (0.5,)), RankedSpan(2, 4, "LOC", (0.9,))]
    assert kept(touching) == touching


def test_the_last_span_can_lose():
    better, worse = RankedSpan(0, 1, "PER", (0.9,)), RankedSpan(0, 2, "PER", (0.6,))
    assert kept([better, worse]) == [better]


def test_a_tie_goes_to_the_longer_then_the_earlier_then_the_first_label():
    long, short = RankedSpan(1, 4, "PER", (0.5,)), RankedSpan(0, 2, "PER", (0.5,))
    assert kept([short, long]) == [long]
    early, late = RankedSpan(0, 2, "PER", (0.5,)), RankedSpan(1, 3, "PER", (0.5,))
    assert kept([late, early]) == [early]
    person, place = RankedSpan(0, 2, "PER", (0.5,)), RankedSpan(0, 2, "LOC", (0.5,))
    assert kept([person, place]) == [place]


def test_the_first_level_of_a_rank_wins_over_the_second():
    certain, likely = RankedSpan(0, 2, "PER", (1.0, 0.2)), RankedSpan(1, 3, "LOC", (0.0, 0.9))
    assert kept([likely, certain]) == [certain]
