from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from linkner_ray.evaluation.detection import (
    aurc,
    detect_errors,
    detect_ood,
    error_aupr,
    excess_aurc,
    risk_coverage,
)

ENTITIES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30)
"""Uncertainty with many ties, and whether it is right."""


def arrays(entities):
    uncertainty, correct = zip(*entities, strict=True)
    return np.array(uncertainty, dtype=float) / 4, np.array(correct, dtype=bool)


def curve_of_order(correct):
    errors = 0
    risks = []
    for kept, right in enumerate(correct, start=1):
        errors += not right
        risks.append(errors / kept)
    return risks


@given(ENTITIES.filter(lambda entities: len(entities) <= 6))
def test_risk_is_the_mean_over_all_orders_of_equally_uncertain_entities(entities):
    uncertainty, correct = arrays(entities)
    ordered = [
        order
        for order in permutations(range(len(correct)))
        if all(uncertainty[a] <= uncertainty[b] for a, b in pairwise(order))
    ]
    expected = np.mean([curve_of_order(correct[list(order)]) for order in ordered], axis=0)
    coverage, risk = risk_coverage(uncertainty, correct)
    assert risk == pytest.approx(expected)
    assert coverage == pytest.approx([k / len(correct) for k in range(1, len(correct) + 1)])
    assert aurc(uncertainty, correct) == pytest.approx(expected.mean())


@given(ENTITIES, st.randoms(use_true_random=False))
def test_no_figure_depends_on_the_order_of_the_input(entities, random):
    shuffled = list(entities)
    random.shuffle(shuffled)
    one, other = detect_errors(*arrays(entities)), detect_errors(*arrays(shuffled))
    for name in ("num_entities", "num_errors", "auroc", "aupr", "aurc", "excess_aurc"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))


@given(ENTITIES)
def test_nothing_beats_the_oracle_and_the_oracle_has_no_excess(entities):
    uncertainty, correct = arrays(entities)
    assert excess_aurc(uncertainty, correct) >= 0
    oracle = (~correct).astype(float)
    assert excess_aurc(oracle, correct) == 0
    assert aurc(oracle, correct) <= aurc(uncertainty, correct) + 1e-12


def test_area_under_risk_by_hand():
    # Sure to unsure: right, wrong, right. Risks 0, 1/2, 1/3; the oracle's 0, 0, 1/3.
    uncertainty, correct = np.array([0.1, 0.2, 0.3]), np.array([True, False, True])
    assert aurc(uncertainty, correct) == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert excess_aurc(uncertainty, correct) == pytest.approx((1 / 2) / 3)


@given(ENTITIES)
def test_average_precision_against_its_definition(entities):
    uncertainty, correct = arrays(entities)
    if correct.all() or not correct.any():
        assert error_aupr(uncertainty, correct) is None
        return
    area, found_before = 0.0, 0
    for threshold in sorted(set(uncertainty), reverse=True):
        found = int((~correct[uncertainty >= threshold]).sum())
        precision = found / int((uncertainty >= threshold).sum())
        area += precision * (found - found_before) / int((~correct).sum())
        found_before = found
    assert error_aupr(uncertainty, correct) == pytest.approx(area)


SETS = st.lists(st.integers(0, 9).map(lambda value: value / 9), min_size=1, max_size=60)


@given(SETS, SETS)
def test_ood_figures_are_those_of_the_roc_curve(inside, outside):
    inside, outside = np.array(inside), np.array(outside)
    is_out = np.repeat([0, 1], [len(inside), len(outside)])
    uncertainty = np.concatenate([inside, outside])
    found = detect_ood(inside, outside)
    assert found.auroc == pytest.approx(roc_auc_score(is_out, uncertainty))
    fpr, tpr, _ = roc_curve(is_out, uncertainty, drop_intermediate=False)
    assert found.fpr_at_95 == pytest.approx(fpr[tpr >= 0.95][0])
    assert (found.num_in, found.num_out) == (len(inside), len(outside))


def test_where_there_is_nothing_to_tell_apart_there_is_no_figure():
    nothing = np.zeros(0)
    empty = detect_errors(nothing, np.zeros(0, dtype=bool))
    assert (empty.auroc, empty.aupr, empty.aurc, empty.excess_aurc) == (None,) * 4
    assert detect_ood(nothing, np.ones(3)).fpr_at_95 is None
    assert detect_ood(np.ones(3), nothing).auroc is None
    right = detect_errors(np.array([0.3, 0.2]), np.ones(2, dtype=bool))
    assert (right.auroc, right.aupr, right.aurc, right.excess_aurc) == (None, None, 0.0, 0.0)
