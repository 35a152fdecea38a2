"""The optimiser against that of torch, which rounds to bfloat16 on the way."""

import pytest
import torch

from examples.demo.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_steps_are_those_of_torch(shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    pairs = [
        (ours, Muon([ours], lr=0.02, weight_decay=0.1)),
        (
            theirs,
            torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        ),
    ]
    for _ in range(5):
        grad = torch.randn(shape)
        for matrix, optimiser in pairs:
            matrix.grad = grad.clone()
            optimiser.step()
    moved = (theirs - start).norm()
    assert moved > 0.1
    assert (ours - theirs).norm() < 0.02 * moved


def test_singular_values_come_near_to_one():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(16, 48) * 100))
    assert ((values > 0.6) & (values < 1.3)).all()


def test_a_matrix_without_a_gradient_stays():
    matrix = torch.nn.Parameter(torch.ones(4, 4))
    Muon([matrix], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(matrix, torch.ones(4, 4))
