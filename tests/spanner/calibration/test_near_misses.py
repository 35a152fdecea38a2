import numpy as np
import pytest

from linkner_ray.spanner.calibration import near_misses as doubt
from linkner_ray.spanner.calibration.near_misses import choose_near_miss_rules
from linkner_ray.spanner.decoding import NearMissRules, choose_rows
from linkner_ray.spanner.span_table import SpanTable

CLASSES = ("O", "PER", "LOC")


def table(*rows):
    """Rows of sentence, start, end, probability of PER, class by gold."""
    sentence, start, end, probability, gold = zip(*rows, strict=True)
    per = np.array(probability, dtype=np.float32)
    spans = SpanTable(
        sentence=np.array(sentence),
        start_token=np.array(start),
        end_token=np.array(end),
        probs=np.stack([1 - per, per, np.zeros_like(per)], axis=1),
        uncertainty=np.minimum(per, 1 - per),
    )
    return spans, np.array(gold)


def random_dev(seed, sentences=60):
    """Spans of random places, gold as often as their probability says."""
    generator = np.random.default_rng(seed)
    rows = []
    for sentence in range(sentences):
        places = {(s, s + w) for s, w in generator.integers((0, 1), (8, 3), size=(6, 2)).tolist()}
        for start, end in sorted(places):
            probability = float(generator.beta(0.3, 0.6))
            rows.append((sentence, start, end, probability, int(generator.random() < probability)))
    return table(*rows)


def measure(spans, gold, rules, num_gold):
    """Recall and extra share by running the rules, the slow way."""
    rows, predicted = choose_rows(spans, rules)
    places = {
        key: is_gold
        for *key, is_gold in zip(
            spans.sentence, spans.start_token, spans.end_token, gold > 0, strict=True
        )
        for key in [tuple(key)]
    }
    chosen = zip(
        *(c[rows] for c in (spans.sentence, spans.start_token, spans.end_token)), strict=True
    )
    hits = sum(bool(places[key]) for key in chosen)
    num_predicted = int(predicted.sum())
    return hits / num_gold, (len(predicted) - num_predicted) / num_predicted


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_the_choice_is_the_best_of_the_grid_and_keeps_the_limit(seed, limit):
    spans, gold = random_dev(seed)
    num_gold = int((gold > 0).sum()) + 3
    rules, worth = choose_near_miss_rules(spans, gold, num_gold=num_gold, max_extra_share=limit)
    assert measure(spans, gold, rules, num_gold) == pytest.approx(
        (worth.candidate_recall, worth.extra_share)
    )
    assert worth.extra_share <= limit
    for floor in doubt.FLOORS[::3]:
        for most in (1, 3):
            other = NearMissRules(floor=floor, max_spans=most, certain_confidence=0.95)
            other_recall, other_extra = measure(spans, gold, other, num_gold)
            assert other_extra > limit or other_recall <= worth.candidate_recall


def test_of_equal_reach_the_fewest_extra_candidates_win():
    # The span at 0.21 is gold, those at 0.05 are not: a floor above 0.05 reaches as much.
    spans, gold = table(
        (0, 0, 1, 0.99, 1), (0, 2, 3, 0.21, 1), (1, 0, 1, 0.97, 1), (1, 2, 3, 0.05, 0)
    )
    rules, worth = choose_near_miss_rules(spans, gold, num_gold=3, max_extra_share=1.0)
    assert (rules.floor, rules.max_spans) == (0.2, 1)
    assert (worth.candidate_recall, worth.extra_share) == (1.0, 0.5)


def test_a_limit_that_no_rules_keep_leaves_predicted_spans_only():
    # The second loses to the first, which is never certain, and is more probable than any floor.
    spans, gold = table((0, 0, 2, 0.8, 1), (0, 1, 2, 0.7, 0))
    rules, worth = choose_near_miss_rules(spans, gold, num_gold=2, max_extra_share=0.5)
    assert rules.max_spans == 0
    assert (worth.candidate_recall, worth.extra_share) == (0.5, 0.0)
