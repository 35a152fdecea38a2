import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.calibration.recalibration import (
    MIN_OF_EACH,
    Recalibration,
    fit_recalibration,
)

NONE = np.zeros((1, 2))


def recalibration(**changes):
    parts = {"intercept": 0.0, "slope": 1.0, "strangeness": (0.0, 0.0), "labels": (0.0, 0.0)}
    return Recalibration(**{**parts, **changes})


def test_a_neutral_recalibration_changes_nothing():
    probs = np.array([[0.1, 0.7, 0.2]])
    assert recalibration().apply(probs, np.array([1]), NONE) == pytest.approx(probs)


def test_what_a_label_loses_goes_to_non_entity_by_hand():
    # Odds 3 : 1 less ln 3 are even: 0.5, two thirds of 0.75, so the other label keeps two thirds.
    found = recalibration(intercept=-np.log(3)).apply(
        np.array([[0.1, 0.75, 0.15]]), np.array([1]), NONE
    )
    assert found == pytest.approx(np.array([[0.4, 0.5, 0.1]]))


def test_what_a_label_gains_all_others_lose_by_hand():
    # Odds 1 : 1 and ln 3 are 3 : 1: the others keep half.
    found = recalibration(intercept=np.log(3)).apply(
        np.array([[0.3, 0.5, 0.2]]), np.array([1]), NONE
    )
    assert found == pytest.approx(np.array([[0.15, 0.75, 0.1]]))


def test_strangeness_and_label_move_the_odds():
    strange = np.array([[1.0, 0.0]])
    probs, label = np.array([[0.25, 0.5, 0.25]]), np.array([2])
    one = recalibration(strangeness=(-2.0, 0.0)).apply(probs, label, strange)
    # log-odds of 1 : 3, less 2
    assert one[0, 2] == pytest.approx(1 / (1 + 3 * np.exp(2.0)))
    other = recalibration(labels=(9.0, -2.0)).apply(probs, label, NONE)
    assert other[0, 2] == pytest.approx(one[0, 2])


probabilities = st.lists(st.floats(1e-6, 1), min_size=4, max_size=4).map(
    lambda row: np.array([row]) / sum(row)
)


@given(probabilities, st.floats(-30, 30), st.floats(0.1, 3))
def test_rows_stay_distributions_and_the_label_stays_the_best(probs, intercept, slope):
    label = 1 + probs[:, 1:].argmax(axis=1)
    one = recalibration(intercept=intercept, slope=slope, labels=(0.0, 0.0, 0.0))
    found = one.apply(probs, label, NONE)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    assert found[0, label[0]] >= found[0, 1:].max() - 1e-9


def strange_world(count=6000):
    """Candidates whose logits are right for seen forms and 2 too high for unseen ones."""
    generator = np.random.default_rng(0)
    logit = generator.normal(2.0, 1.5, count)
    unseen = (generator.random(count) < 0.3).astype(np.float64)
    own = 1 / (1 + np.exp(-logit))
    right = generator.random(count) < 1 / (1 + np.exp(-(logit - 2.0 * unseen)))
    probs = np.stack([1 - own, own], axis=1)
    return probs, np.ones(count, np.int64), unseen[:, None], right


def test_the_fit_finds_how_much_unseen_forms_are_over_recalibrated():
    probs, label, strangeness, right = strange_world()
    found = fit_recalibration(probs, label, strangeness, right)
    assert found.strangeness[0] == pytest.approx(-2.0, abs=0.25)
    assert found.slope == pytest.approx(1.0, abs=0.1)
    recalibrated = found.apply(probs, label, strangeness)[:, 1]
    for kind in (0.0, 1.0):
        of_kind = strangeness[:, 0] == kind
        assert recalibrated[of_kind].mean() == pytest.approx(right[of_kind].mean(), abs=0.01)


def test_too_few_errors_fit_nothing():
    probs, label, strangeness, right = strange_world()
    few = np.concatenate([np.flatnonzero(~right)[: MIN_OF_EACH - 1], np.flatnonzero(right)])
    assert fit_recalibration(probs[few], label[few], strangeness[few], right[few]) is None


def test_a_recalibration_survives_json():
    import json
    from dataclasses import asdict

    one = recalibration(intercept=0.5, strangeness=(1.0, -2.0))
    assert Recalibration.from_json(json.loads(json.dumps(asdict(one)))) == one
