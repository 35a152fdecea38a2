"""The optimiser of the demo's LLM: Muon in float32.

`torch.optim.Muon` orthogonalises in bfloat16, which a processor that lacks it emulates: there a
step of the optimiser took twice as long as forward and backward together.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum with Nesterov's look ahead, every update brought near to an orthogonal matrix.

    Steps are as large as those of AdamW, so that one learning rate serves both.

    Args:
        matrices: Parameters of two dimensions.
        lr: Learning rate.
        weight_decay: Decoupled from the update.

    Reference:
        Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks; the size of
        steps as in Liu et al. (2025), Muon is Scalable for LLM Training.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonalized(matrix.grad.lerp(momentum, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonalized(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors, and singular values brought near to 1.

    Args:
        matrix: Shape (M, N).

    Returns:
        Shape (M, N), by Newton-Schulz iterations in the dtype of `matrix`.
    """
    first, second, third = COEFFICIENTS
    is_tall = matrix.size(0) > matrix.size(1)
    found = matrix.T if is_tall else matrix
    found = found / found.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = found @ found.T
        found = first * found + (second * gram + third * gram @ gram) @ found
    return found.T if is_tall else found
