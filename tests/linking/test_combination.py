"""Local probabilities and evidence, weighted."""

import numpy as np
import pytest

from linkner_ray.linking.combination import Combination, fit_combination
from tests.linking.made import candidates, drawn

NEUTRAL = Combination(local=1.0, llm=0.0, bias=(0.0,) * 3, kinds=(0.0,) * 4)


def test_the_neutral_one_is_the_local_model():
    found, _, _ = drawn(5, accuracy=1.0)

    assert NEUTRAL.apply(found, np.ones((5, 3))) == pytest.approx(found.probs, rel=1e-4, abs=1e-5)


def test_evidence_multiplies():
    both = Combination(local=1.0, llm=2.0, bias=(0.0,) * 3, kinds=(0.0,) * 4)
    found = candidates([[0.5, 0.25, 0.25]])

    # 0.5 : 0.25 * 2 ** 2 : 0.25
    assert both.apply(found, np.log([[1.0, 2.0, 1.0]])) == pytest.approx(
        np.array([[0.5, 1.0, 0.25]]) / 1.75
    )


def test_a_kind_has_odds_of_its_own_for_no_entity():
    by_kind = Combination(local=1.0, llm=0.0, bias=(0.0,) * 3, kinds=(0.0, 0.0, 0.0, np.log(4)))
    found = candidates([[0.5, 0.25, 0.25]] * 2, kind=[0, 3])

    assert by_kind.apply(found)[:, 0] == pytest.approx([0.5, 0.8])


def test_calibrated_probabilities_stay_and_likelihoods_count_in_full():
    found, answers, gold = drawn(6_000, accuracy=0.4)
    likelihood = np.full((3, 3), 0.2) + 0.4 * np.eye(3)

    fit = fit_combination(found, np.log(likelihood[:, answers.said].T), gold)

    assert fit.local == pytest.approx(1.0, abs=0.1)
    assert fit.llm == pytest.approx(1.0, abs=0.15)
    assert np.array([*fit.bias, *fit.kinds]) == pytest.approx(np.zeros(7), abs=0.25)


def test_a_model_too_sure_of_itself_is_believed_less():
    found, _, gold = drawn(6_000, accuracy=0.0)
    sure = found.probs**2 / (found.probs**2).sum(axis=1, keepdims=True)

    fit = fit_combination(candidates(sure, kind=found.kind), None, gold)

    assert fit.local == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("num", [0, 3])
def test_few_answers_change_little(num):
    found, _, gold = drawn(num, accuracy=0.0)

    fit = fit_combination(found, np.log(np.full((num, 3), 1 / 3)), gold)

    assert fit.apply(found) == pytest.approx(found.probs, abs=0.25)


def test_it_is_kept_as_json():
    tree = {"local": 1, "llm": 0.5, "bias": [0, 1, 2], "kinds": [0, 0, 0, 1]}

    assert Combination.from_json(tree) == Combination(
        local=1.0, llm=0.5, bias=(0.0, 1.0, 2.0), kinds=(0.0, 0.0, 0.0, 1.0)
    )
