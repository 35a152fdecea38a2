from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.decoding import NearMissRules, choose_rows
from linkner_ray.spanner.span_table import SpanTable
from linkner_ray.spans import RankedSpan, keep_flat

RULES = NearMissRules(floor=0.1, max_spans=2, certain_confidence=0.9)


class Span(NamedTuple):
    start: int
    end: int
    probability: float  # of the likelier of two labels
    other: float = 0.0

    @property
    def entity(self):
        return self.probability + self.other

    def overlaps(self, other):
        return self.start < other.end and other.start < self.end


def choose(sentences, rules):
    """Predicted spans and near misses of each sentence, which has its spans by position."""
    rows = [(index, *span) for index, spans in enumerate(sentences) for span in spans]
    sentence, start, end, probability, other = np.array(rows or [(0,) * 5][:0]).reshape(-1, 5).T
    table = SpanTable(
        sentence=sentence.astype(np.int64),
        start_token=start.astype(np.int64),
        end_token=end.astype(np.int64),
        probs=np.stack([1 - probability - other, probability, other], axis=1, dtype=np.float32),
        uncertainty=np.zeros(len(rows)),
    )
    chosen, predicted = choose_rows(table, rules)
    found = [([], []) for _ in sentences]
    for row, is_predicted in zip(chosen, predicted, strict=True):
        index, *span = rows[row]
        found[index][0 if is_predicted else 1].append(Span(*span))
    return found


# Torn between two labels: 0.3 each, non-entity 0.4.
TORN = Span(0, 1, 0.3, 0.3)


@pytest.mark.parametrize(
    ("spans", "changes", "predicted", "near_misses"),
    [
        ([(0, 1, 0.6), (0, 2, 0.8), (5, 6, 0.05)], {}, [1], [0]),
        # No other boundary beside a certain entity, also at the limit itself.
        ([(0, 2, 0.95), (1, 2, 0.6), (1, 3, 0.4), (2, 3, 0.2)], {}, [0], [3]),
        ([(0, 1, 0.4), (0, 2, 0.875)], {"certain_confidence": 0.875}, [1], []),
        ([(0, 1, 0.125), (2, 3, 0.1249)], {"floor": 0.125}, [], [0]),
        # Only the likeliest, in order of position.
        ([(0, 1, 0.2), (2, 3, 0.1), (4, 5, 0.4), (6, 7, 0.3)], {}, [], [2, 3]),
        ([(0, 1, 0.6), (2, 3, 0.4)], {"max_spans": 0}, [0], []),
        # What counts is the probability of being any entity.
        ([TORN, (2, 3, 0.45)], {"floor": 0.5}, [], [0]),
        # Of equal ones the longer is kept, then the earlier.
        ([(0, 2, 0.7), (1, 4, 0.7), (3, 6, 0.7)], {"max_spans": 0}, [1], []),
        ([], {}, [], []),
    ],
    ids=["boundary", "certain", "limit", "floor", "likeliest", "none", "torn", "ties", "empty"],
)
def test_predicted_spans_and_near_misses(spans, changes, predicted, near_misses):
    spans = [Span(*span) for span in spans]
    rules = NearMissRules(**{name: getattr(RULES, name) for name in RULES.__slots__} | changes)
    expected = ([spans[i] for i in predicted], [spans[i] for i in near_misses])
    assert choose([spans], rules) == [expected]


def the_slow_way(spans, rules):
    winners = [span for span in spans if span.probability > 1 - span.entity]
    ranked = [RankedSpan(span.start, span.end, "", (span.probability,)) for span in winners]
    predicted = [winners[index] for index in keep_flat(ranked)]
    certain = [span for span in predicted if span.probability >= rules.certain_confidence]
    near_misses = [
        span
        for span in spans
        if span not in predicted
        and 1 - (1 - span.entity) >= rules.floor
        and not any(span.overlaps(other) for other in certain)
    ]
    near_misses.sort(key=lambda span: (-span.entity, span.start - span.end, span.start))
    return predicted, sorted(near_misses[: rules.max_spans])


sentences_with_spans = st.lists(
    st.lists(
        st.builds(
            lambda start, width, probability: Span(start, start + width, probability),
            st.integers(0, 8),
            st.integers(1, 4),
            st.sampled_from([0.0625, 0.25, 0.375, 0.625, 0.875, 0.9375]),  # exact in binary
        ),
        max_size=14,
        unique_by=lambda span: span[:2],
    ).map(sorted),
    max_size=4,
)


@given(sentences_with_spans, st.integers(0, 3), st.sampled_from([0.625, 0.9]))
def test_many_sentences_at_once_are_chosen_as_each_alone_the_slow_way(sentences, most, certain):
    rules = NearMissRules(floor=0.25, max_spans=most, certain_confidence=certain)
    assert choose(sentences, rules) == [the_slow_way(spans, rules) for spans in sentences]


def test_spans_of_a_huge_sentence_are_chosen_in_little_time():
    spans = [Span(t, t + w, 0.5 + w / 100) for t in range(20_000) for w in (1, 2, 3)]
    ((predicted, _),) = choose([spans], RULES)
    assert predicted == [span for span in spans if span.start % 3 == 0 and span.end % 3 == 0]
