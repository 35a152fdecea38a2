import numpy as np
import pytest

from linkner_ray.evaluation.bootstrap import Resampler, f1_of


def counts_of(rng, documents, right_share):
    right = rng.binomial(4, right_share, documents)
    return np.stack([right, 4 - right, 4 - right], axis=1)


def test_f1_is_that_of_all_documents_together():
    counts = np.array([[1, 0, 0], [1, 2, 2]])
    assert f1_of(counts) == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    assert f1_of(np.zeros((3, 3), dtype=np.int64)) == 0.0
    assert f1_of(np.zeros((0, 3), dtype=np.int64)) == 0.0


def test_a_draw_is_the_f1_of_the_documents_drawn():
    counts = counts_of(np.random.default_rng(1), 7, 0.6)
    drawn = np.random.default_rng(0).integers(7, size=7)
    assert Resampler(7, samples=3).f1(counts)[0] == pytest.approx(f1_of(counts[drawn]))


def test_swapped_systems_mirror_the_interval():
    rng = np.random.default_rng(3)
    a, b = counts_of(rng, 80, 0.6), counts_of(rng, 80, 0.8)
    there, back = Resampler(80).difference(a, b), Resampler(80).difference(b, a)
    assert there.difference == pytest.approx(-back.difference)
    assert there.low == pytest.approx(-back.high)
    assert not there.is_inside
    assert there.low < there.difference < there.high


def test_pairing_narrows_what_both_systems_find_hard():
    rng = np.random.default_rng(4)
    hard = rng.uniform(size=200) < 0.5
    base = np.where(hard, rng.binomial(20, 0.3, 200), rng.binomial(20, 0.95, 200))
    better = np.minimum(base + (rng.uniform(size=200) < 0.3), 20)
    a, b = (np.stack([r, 20 - r, 20 - r], axis=1) for r in (base, better))
    paired = Resampler(200).difference(a, b)
    low, high = Resampler(200).interval(a)
    assert not paired.is_inside
    assert paired.high - paired.low < (high - low) / 5


@pytest.mark.parametrize("true_gain", [0.0, 0.05])
def test_intervals_hold_the_truth_about_as_often_as_they_say(true_gain):
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        a, b = counts_of(rng, 150, 0.6), counts_of(rng, 150, 0.6 + true_gain)
        found = Resampler(150, samples=300).difference(a, b)
        held += found.low <= true_gain <= found.high
    assert 0.90 <= held / 200 <= 0.99


def test_no_documents_give_no_interval_but_zero():
    assert Resampler(0).interval(np.zeros((0, 3), dtype=np.int64)) == (0.0, 0.0)
