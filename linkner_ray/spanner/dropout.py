"""Dropout at prediction time that does not depend on what is batched together.

Letters: H width of a layer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_ATTENTION_DIMENSIONS = 4
"""Attention probabilities are (B, heads, L, L): their width is the padded length of a batch."""


@contextmanager
def sampled_dropout(*networks: nn.Module, seed: tuple[int, ...]) -> Iterator[None]:
    """Run networks with units switched off, though they are in evaluation mode.

    Every `nn.Dropout` drops the same units of its layer at every position of every sentence: one
    dropout-sampled network, whose answer for a sentence does not depend on its neighbours. Dropout
    of attention probabilities stays off, since their width depends on the batch.

    Args:
        networks: Their `nn.Dropout` modules are sampled, in the order in which they lie.
        seed: Decides the masks.

    Reference:
        Gal and Ghahramani (2016), A Theoretically Grounded Application of Dropout in Recurrent
        Neural Networks: one mask for all positions.
    """
    modules = [m for one in networks for m in one.modules() if isinstance(m, nn.Dropout)]
    handles = [
        module.register_forward_hook(_Mask(module.p, (*seed, place)))
        for place, module in enumerate(modules)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Mask:
    """A hook that multiplies what a layer gives by a mask over its width."""

    def __init__(self, p: float, seed: tuple[int, ...]) -> None:
        self._keep = 1.0 - p
        self._seed = seed
        self._masks: dict[int, Tensor] = {}

    def __call__(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:  # noqa: ANN401
        if output.ndim == _ATTENTION_DIMENSIONS:
            return output
        width = output.shape[-1]
        if width not in self._masks:
            draws = np.random.default_rng([*self._seed, width]).random(width)
            self._masks[width] = torch.from_numpy((draws < self._keep) / max(self._keep, 1e-9))
        return output * self._masks[width].to(output)
