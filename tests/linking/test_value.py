"""What a question is worth."""

import numpy as np
import pytest

from linkner_ray.linking.combination import Combination
from linkner_ray.linking.value import contribution, decide, expected_value
from tests.linking.made import candidates

LOCAL = Combination(local=1.0, llm=0.0, bias=(0.0, 0.0), kinds=(0.0,) * 4)
BOTH = Combination(local=1.0, llm=1.0, bias=(0.0, 0.0), kinds=(0.0,) * 4)
NEVER_WRONG = np.array([[1.0, 1e-9], [1e-9, 1.0]])


def value(found, confusion, f1=0.8):
    return expected_value(
        found, belief=LOCAL, combination=BOTH, confusion=np.array(confusion), f1=f1
    )


def test_contributions_are_the_slope_of_f1():
    # 60 right of 80 predicted, 100 in gold; one more, right or wrong.
    before = 2 * 60 / 180
    one_right, one_wrong = 2 * 61 / 181, 2 * 60 / 181
    found = contribution(np.array([1, 1, 0, 0]), np.array([1, 2, 1, 0]), before)

    assert found / 181 == pytest.approx([one_right - before, one_wrong - before, 0.0, 0.0])


def test_a_label_is_kept_from_half_of_f1_on():
    probs = np.array([[0.55, 0.42, 0.03], [0.55, 0.38, 0.07], [0.1, 0.2, 0.7]])

    assert decide(probs, 0.8).tolist() == [1, 0, 2]


def test_an_llm_that_is_never_wrong_settles_a_doubt():
    # Kept, it adds 2 * 0.5 - 0.8; known, it adds 1.2 in half of the cases.
    assert value(candidates([[0.5, 0.5]]), NEVER_WRONG) == pytest.approx([0.6 - 0.2])


def test_a_near_miss_is_not_there_without_an_answer():
    assert value(candidates([[0.5, 0.5]], kind=[2]), NEVER_WRONG) == pytest.approx([0.6])


def test_where_nothing_is_in_doubt_nothing_is_gained():
    assert value(candidates([[1e-9, 1.0]]), NEVER_WRONG) == pytest.approx([0.0], abs=1e-6)


def test_an_answer_that_says_nothing_is_worth_nothing():
    found = candidates([[0.3, 0.7], [0.1, 0.9]])

    assert value(found, [[0.5, 0.5], [0.5, 0.5]]) == pytest.approx([0.0, 0.0], abs=1e-12)


def test_a_better_llm_is_worth_more():
    found = candidates([[0.4, 0.6]])
    worth = [value(found, [[p, 1 - p], [1 - p, p]])[0] for p in (0.5, 0.7, 0.9, 0.99)]

    assert worth == sorted(worth)
    assert worth[0] < worth[-1]
