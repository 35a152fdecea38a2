"""What answers say of a class."""

import numpy as np
import pytest

from linkner_ray.linking.evidence import confusion_of, log_mean, without_prior


def test_an_llm_that_always_says_the_same_says_nothing():
    log_probs = np.log(np.tile([0.7, 0.2, 0.1], (4, 1)))

    found = without_prior(log_probs, log_mean(log_probs))

    assert np.exp(found) == pytest.approx(np.full((4, 3), 1 / 3))


def test_what_is_left_is_what_differs_from_the_prior():
    found = without_prior(np.log([[0.9, 0.1]]), np.log([0.75, 0.25]))

    # 0.9 / 0.75 : 0.1 / 0.25 is 3 : 1.
    assert np.exp(found) == pytest.approx(np.array([[0.75, 0.25]]))


def test_the_prior_of_a_batch_is_its_mean():
    assert np.exp(log_mean(np.log([[0.9, 0.1], [0.5, 0.5]]))) == pytest.approx([0.7, 0.3])


def test_many_answers_show_how_often_a_class_is_called_another():
    gold = np.repeat([0, 1], 10_000)
    said = np.concatenate([np.repeat([0, 1], [9_000, 1_000]), np.repeat([0, 1], [2_000, 8_000])])

    assert confusion_of(said, gold, 2) == pytest.approx(
        np.array([[0.9, 0.1], [0.2, 0.8]]), abs=2e-3
    )


def test_without_answers_nothing_is_known():
    nothing = np.array([], dtype=np.int64)

    assert confusion_of(nothing, nothing, 4) == pytest.approx(np.full((4, 4), 0.25))


def test_a_class_that_dev_lacks_is_told_right_as_often_as_others():
    said = gold = np.repeat([0, 1], 5_000)

    found = confusion_of(said, gold, 3)

    assert found[2, 2] > 0.95
    assert found.sum(axis=1) == pytest.approx(np.ones(3))


def test_answers_at_random_say_nothing():
    rng = np.random.default_rng(0)
    gold, said = rng.integers(0, 4, 2_000), rng.integers(0, 4, 2_000)

    found = confusion_of(said, gold, 4)

    assert np.ptp(found, axis=0).max() < 0.1
