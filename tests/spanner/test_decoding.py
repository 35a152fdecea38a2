from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.decoding import NearMissRules, ScoredSpan, choose_candidates

RULES = NearMissRules(floor=0.1, max_spans=2, certain_confidence=0.9)


def span(start, end, probability, *, entity=None, label="PER", is_entity=True):
    return ScoredSpan(start, end, label, probability, entity or probability, is_entity)


def lost(start, end, probability):
    return span(start, end, probability, is_entity=False)


# Torn between two labels: 0.3 each, non-entity 0.4.
TORN = span(0, 1, 0.3, entity=0.6, is_entity=False)


@pytest.mark.parametrize(
    ("spans", "changes", "expected"),
    [
        ([span(0, 2, 0.8), span(0, 1, 0.6), lost(5, 6, 0.05)], {}, ([0], [1])),
        # No other boundary beside a certain entity, also at the limit itself.
        ([span(0, 2, 0.95), span(1, 2, 0.6), lost(1, 3, 0.4), lost(2, 3, 0.2)], {}, ([0], [3])),
        ([span(0, 2, 0.9), lost(0, 1, 0.4)], {}, ([0], [])),
        ([lost(0, 1, 0.1), lost(2, 3, 0.0999)], {}, ([], [0])),
        # Only the likeliest, in order of position.
        ([lost(6, 7, 0.3), lost(0, 1, 0.2), lost(4, 5, 0.4), lost(2, 3, 0.1)], {}, ([], [2, 0])),
        ([span(0, 1, 0.5), lost(2, 3, 0.4)], {"max_spans": 0}, ([0], [])),
        # What counts is the probability of being any entity.
        ([TORN, lost(2, 3, 0.45)], {"floor": 0.5}, ([], [0])),
    ],
    ids=["boundary", "certain", "limit", "floor", "likeliest", "none", "torn"],
)
def test_predicted_spans_and_near_misses(spans, changes, expected):
    assert choose_candidates(spans, replace(RULES, **changes)) == expected


spans_of_a_sentence = st.lists(
    st.builds(
        lambda start, width, probability, is_entity: ScoredSpan(
            start, start + width, "PER", probability, probability, is_entity
        ),
        st.integers(0, 8),
        st.integers(1, 4),
        st.sampled_from([0.05, 0.2, 0.45, 0.6, 0.9, 0.95]),
        st.booleans(),
    ),
    max_size=14,
    unique_by=lambda one: one[:2],
)


@given(spans_of_a_sentence, st.randoms())
def test_the_choice_does_not_depend_on_the_order(spans, random):
    shuffled = random.sample(spans, len(spans))
    first, second = choose_candidates(spans, RULES), choose_candidates(shuffled, RULES)
    for one, other in zip(first, second, strict=True):
        assert [spans[index] for index in one] == [shuffled[index] for index in other]


@given(spans_of_a_sentence)
def test_candidates_keep_the_rules(spans):
    choice = choose_candidates(spans, RULES)
    predicted = [spans[index] for index in choice.predicted]
    near_misses = [spans[index] for index in choice.near_misses]
    assert not set(choice.predicted) & set(choice.near_misses)
    assert all(one.end_token <= other.start_token for one, other in pairwise(predicted))
    assert all(one.is_entity for one in predicted)
    assert len(near_misses) <= RULES.max_spans
    for one in near_misses:
        assert one.entity_probability >= RULES.floor
        assert not any(
            other.probability >= 0.9
            and one.start_token < other.end_token
            and other.start_token < one.end_token
            for other in predicted
        )


@given(spans_of_a_sentence)
def test_every_likely_span_that_touches_no_certain_entity_is_near_miss(spans):
    rules = NearMissRules(floor=0.1, max_spans=len(spans), certain_confidence=0.9)
    choice = choose_candidates(spans, rules)
    certain = [spans[index] for index in choice.predicted if spans[index].probability >= 0.9]
    expected = {
        index
        for index, one in enumerate(spans)
        if index not in choice.predicted
        and one.entity_probability >= 0.1
        and not any(
            one.start_token < other.end_token and other.start_token < one.end_token
            for other in certain
        )
    }
    assert set(choice.near_misses) == expected
