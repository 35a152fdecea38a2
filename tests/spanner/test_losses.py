import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from linkner_ray.spanner.losses import (
    classification_term,
    divergence_term,
    evidence_of,
    evidential_loss,
    uncertainty_term,
    weighted_cross_entropy,
)

LOSSES = [
    lambda logits, gold: weighted_cross_entropy(logits, gold, non_entity_weight=0.6),
    lambda logits, gold: evidential_loss(logits, gold, non_entity_weight=0.6, annealing=1.0),
]


def test_cross_entropy_of_two_spans():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]))
    # (0.6 ln 2 + 1 * -ln 0.7) / 1.6
    expected = (0.6 * math.log(2) - math.log(0.7)) / 1.6
    loss = weighted_cross_entropy(logits, torch.tensor([0, 1]), non_entity_weight=0.6)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_classification_term_of_a_known_span():
    # alpha = (1, 2), S = 3, e_y / S = 1/3; psi(3) - psi(2) = 1/2
    term = classification_term(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    torch.testing.assert_close(term, torch.tensor([(1 - 1 / 3) * 0.5]))


def test_divergence_term_of_a_known_span():
    # alpha~ = (3, 1): ln G(4)/(G(3) G(1) G(2)) + 2 (psi(3) - psi(4)) = ln 3 - 2/3
    term = divergence_term(torch.tensor([[2.0, 5.0]]), torch.tensor([1]))
    torch.testing.assert_close(term, torch.tensor([math.log(3) - 2 / 3]))


def test_divergence_is_zero_without_evidence_against_gold():
    term = divergence_term(torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([1]))
    torch.testing.assert_close(term, torch.zeros(1), atol=1e-6, rtol=0)


def test_uncertainty_term_of_a_known_span():
    # S = 3 + 2 + 1 = 6, C = 3: -ln(3 / 6)
    torch.testing.assert_close(
        uncertainty_term(torch.tensor([[2.0, 1.0, 0.0]])), torch.tensor([math.log(2)])
    )


def test_the_three_terms_add_up_and_anneal():
    logits, gold = torch.tensor([[0.3, -0.4, 1.2], [2.0, 0.1, -1.0]]), torch.tensor([1, 0])
    evidence = logits.double().exp()
    weights = torch.tensor([1.0, 0.6]).double()
    for annealing in (0.0, 0.25, 1.0):
        terms = classification_term(evidence, gold)
        terms = terms + annealing * divergence_term(evidence, gold)
        terms[0] += annealing * uncertainty_term(evidence)[0]  # only the first is predicted wrong
        expected = (terms * weights).sum() / weights.sum()
        loss = evidential_loss(logits, gold, non_entity_weight=0.6, annealing=annealing)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_evidence_is_exponential_and_continues_by_its_tangent():
    logits = torch.tensor([0.0, 2.0, 10.0, 12.0], dtype=torch.float64)
    top = math.exp(10)
    expected = torch.tensor([1.0, math.exp(2), top, 3 * top], dtype=torch.float64)
    torch.testing.assert_close(evidence_of(logits), expected)


@pytest.mark.parametrize("loss", LOSSES)
@given(
    rows=st.lists(
        st.tuples(st.lists(st.sampled_from([-50.0, -1.0, 0.0, 3.0, 50.0]), min_size=4, max_size=4),
                  st.integers(0, 3)),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_losses_and_gradients_are_finite_for_extreme_logits(loss, rows):
    logits = torch.tensor([row for row, _ in rows], requires_grad=True)
    value = loss(logits, torch.tensor([label for _, label in rows]))
    value.backward()
    assert math.isfinite(value.item())
    assert value.item() >= -1e-6
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_spans_costs_nothing(loss):
    logits = torch.zeros(0, 4, requires_grad=True)
    value = loss(logits, torch.zeros(0, dtype=torch.long))
    value.backward()
    assert value.item() == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_certain_wrong_answer_still_has_a_gradient(loss):
    logits = torch.tensor([[50.0, -50.0, -50.0]], requires_grad=True)
    loss(logits, torch.tensor([1])).backward()
    assert logits.grad[0, 0] > 0
