"""The promise, held over many sets; beside what would be believed without a test."""

import numpy as np
import pytest

from linkner_ray.errors import DataError
from linkner_ray.spanner.guarantee import design_effect, guaranteed_threshold
from linkner_ray.spanner.thresholds import risk_threshold

ALPHA, DELTA, SETS = 0.05, 0.1, 200


def draw(rng, size, *, clustered):
    """Uncertainty, whether right, and sentence; errors grow with uncertainty."""
    sentences = np.repeat(np.arange(size // 4), 4)
    uncertainty = rng.random(size)
    chance = 0.16 * uncertainty  # of all up to u: 0.08 u
    if clustered:
        # A sentence is hard or easy as a whole: hard ones hold all errors.
        hard = np.repeat(rng.random(size // 4) < 0.25, 4)
        chance = np.where(hard, 4 * chance, 0.0)
    return uncertainty, rng.random(size) >= chance, sentences


def true_risk(threshold):
    return 0.08 * min(threshold, 1.0)


@pytest.mark.parametrize("clustered", [False, True])
def test_the_promise_is_kept_in_all_but_a_share_of_sets(clustered):
    rng = np.random.default_rng(7)
    broken = believed = 0
    shares = []
    for _ in range(SETS):
        uncertainty, correct, sentences = draw(rng, 2000, clustered=clustered)
        believed += true_risk(risk_threshold(uncertainty, correct, ALPHA)) > ALPHA
        try:
            found = guaranteed_threshold(uncertainty, correct, sentences, alpha=ALPHA, delta=DELTA)
        except DataError:  # an unlucky set: nothing is promised, so nothing is broken
            shares.append(0.0)
            continue
        broken += true_risk(found.threshold) > ALPHA
        shares.append(found.num_local / 2000)
    # A tenth of 200 sets, and three standard deviations of luck.
    assert broken <= DELTA * SETS + 3 * np.sqrt(SETS * DELTA * (1 - DELTA))
    # Without a test every other set promises too much.
    assert believed > 0.3 * SETS
    # It is no use to promise little: at most 0.625 could stay local.
    assert np.mean(shares) > 0.35


@pytest.mark.parametrize("size", [300, 2000])
def test_a_few_hard_sentences_break_no_promise(size):
    # One sentence of 20 entities in twelve holds all errors, and at every threshold a little more
    # than alpha is wrong, so whoever promises anything breaks it. 15 sentences often hold no hard
    # one at all, and 300 entities without an error would pass for proof if they stood alone.
    rng = np.random.default_rng(11)
    broken = alone = 0
    sentences = np.repeat(np.arange(size // 20), 20)
    for _ in range(SETS):
        hard = np.repeat(rng.random(size // 20) < 1 / 12, 20)
        correct = ~(hard & (rng.random(size) < 12 * 0.0501))
        uncertainty = rng.random(size)
        broken += promises(uncertainty, correct, sentences)
        alone += promises(uncertainty, correct, np.arange(size))
    assert broken <= DELTA * SETS + 3 * np.sqrt(SETS * DELTA * (1 - DELTA))
    assert alone > 0.2 * SETS  # as if entities were independent


def promises(uncertainty, correct, groups):
    try:
        guaranteed_threshold(uncertainty, correct, groups, alpha=ALPHA, delta=DELTA)
    except DataError:
        return False
    return True


def test_errors_that_come_together_weaken_the_test():
    rng = np.random.default_rng(3)
    apart = rng.random(4000) < 0.1
    together = np.repeat(rng.random(1000) < 0.1, 4)
    groups = np.repeat(np.arange(1000), 4)
    assert design_effect(apart, groups) == pytest.approx(1.0, abs=0.15)
    assert design_effect(together, groups) == pytest.approx(4.0, abs=0.3)
    assert design_effect(np.zeros(10, bool), np.arange(10)) == 1.0


def test_few_errors_do_not_show_that_they_come_alone():
    pairs = np.repeat(np.arange(20), 2)
    assert design_effect(np.zeros(40, bool), pairs) == 2.0  # 1 + (2 - 1) * 1
    wrong = np.isin(np.arange(40), [0, 20])
    # Two of 40 wrong, in two pairs: squares of errors less 0.1 add up to 2 * 0.81 + 18 * 0.01, over
    # 0.05 * 0.95 that is 37.89, and the correlation (37.89 - 40) / 40. Beside these two pairs one
    # with correlation 1: (2 * -0.0526 + 1) / 3.
    assert design_effect(wrong, pairs) == pytest.approx(1.2982, abs=1e-4)


def test_too_small_a_set_is_refused_with_the_number_needed():
    # 0.95^45 is the first power below 0.1, and a fifth of the set must have so many.
    uncertainty, correct, groups = np.linspace(0, 1, 224), np.ones(224, bool), np.arange(224)
    with pytest.raises(DataError, match="needs at least 225 predicted entities, the set has 224"):
        guaranteed_threshold(uncertainty, correct, groups, alpha=0.05, delta=0.1)
    # In pairs that stay local together each counts half.
    with pytest.raises(DataError, match="needs at least 450 predicted entities, the set has 224"):
        guaranteed_threshold(uncertainty, correct, groups // 2, alpha=0.05, delta=0.1)


def test_where_nothing_can_be_promised_it_is_said():
    correct = np.arange(1000) % 3 != 0
    with pytest.raises(DataError, match="of the surest 200 labels 67 are wrong"):
        guaranteed_threshold(
            np.linspace(0, 1, 1000), correct, np.arange(1000), alpha=0.05, delta=0.1
        )


def test_without_errors_all_may_stay_local():
    found = guaranteed_threshold(
        np.linspace(0, 0.9, 1000), np.ones(1000, bool), np.arange(1000), alpha=0.05, delta=0.1
    )
    assert (found.threshold, found.num_local, found.num_errors) == (1.0, 1000, 0)


def test_equal_uncertainties_stay_local_together():
    uncertainty = np.repeat([0.1, 0.5], [900, 100])
    correct = np.concatenate([np.ones(900, bool), np.zeros(100, bool)])
    found = guaranteed_threshold(uncertainty, correct, np.arange(1000), alpha=0.05, delta=0.1)
    assert (found.threshold, found.num_local) == (0.5, 900)
