"""The fitted weight: against a grid, at its ends, and where it is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.evaluation.fusion_weight import fit_product_weight
from linkner_ray.stages.fuse_entities import pool_probs


def negative_log_likelihood(local, llm, gold, weight):
    return -sum(
        math.log(pool_probs(ours, theirs, weight)[right])
        for ours, theirs, right in zip(local, llm, gold, strict=True)
    ) / len(gold)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(2, 5))
def test_no_weight_on_a_grid_is_likelier(seed, num_spans, num_classes):
    rng = np.random.default_rng(seed)
    local, llm = rng.dirichlet(np.full(num_classes, 0.5), size=(2, num_spans))
    gold = rng.integers(num_classes, size=num_spans)
    fitted = fit_product_weight(local, llm, gold)
    best = min(
        negative_log_likelihood(local, llm, gold, weight) for weight in np.linspace(0, 1, 41)
    )
    assert negative_log_likelihood(local, llm, gold, fitted) <= best + 1e-9


def test_a_weight_worked_out_by_hand():
    # Two classes, local at 1/2: the pool is the LLM's odds to the power of the weight. Of four
    # spans where the LLM says 9:1 for class 1, three are class 1, so the likeliest pool says 3:1:
    # 9^w = 3, w = 1/2.
    local = np.full((4, 2), 0.5)
    llm = np.tile([0.1, 0.9], (4, 1))
    assert fit_product_weight(local, llm, np.array([1, 1, 1, 0])) == pytest.approx(0.5, abs=1e-9)


def test_the_weight_stays_between_the_models():
    good, bad = np.array([[0.1, 0.9]] * 3), np.array([[0.8, 0.2]] * 3)
    gold = np.ones(3, dtype=np.int64)
    assert fit_product_weight(bad, good, gold) == 1.0
    assert fit_product_weight(good, bad, gold) == 0.0


def test_probabilities_of_zero_do_not_break_the_fit():
    local, llm = np.array([[0.0, 1.0], [0.2, 0.8]]), np.array([[1.0, 0.0], [0.1, 0.9]])
    assert 0 <= fit_product_weight(local, llm, np.array([1, 0])) <= 1
