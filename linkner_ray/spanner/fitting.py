"""The optimisation of a SpanNER, without any word of how it is distributed.

Letters: B windows, T tokens, W widths, C classes with non-entity first.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from linkner_ray.config import TrainingConfig
from linkner_ray.spanner.features import Batch, Windows
from linkner_ray.spanner.losses import evidential_loss, weighted_cross_entropy
from linkner_ray.spanner.model import SpanNER

GROUP_BATCHES = 50
"""Batches whose sentences are sorted by length together; more waste less padding, mix less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A sentence with its gold spans as the model counts them.

    Attributes:
        tokens: The sentence.
        spans: Half-open token positions and class index of each gold entity.
    """

    tokens: Sequence[str]
    spans: Sequence[tuple[int, int, int]]


def length_grouped_batches(
    lengths: Sequence[int], batch_size: int, *, generator: np.random.Generator
) -> list[list[int]]:
    """Shuffle items into batches whose members are of like length.

    Returns:
        Indices, batch by batch; ceil(N / batch_size) batches for N items.
    """
    order = generator.permutation(len(lengths))
    group = batch_size * GROUP_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(order), group):
        by_length = sorted(order[start : start + group].tolist(), key=lambda i: -lengths[i])
        batches.extend(
            by_length[place : place + batch_size] for place in range(0, len(by_length), batch_size)
        )
    return [batches[index] for index in generator.permutation(len(batches))]


def training_batch(model: SpanNER, examples: Sequence[Example]) -> tuple[Batch, Tensor]:
    """Features and gold classes of some sentences.

    Returns:
        The batch, and the class of every span; spans outside `span_mask` hold 0. Shape (B, T, W).
    """
    windows = model.featurizer.windows([example.tokens for example in examples])
    batch = model.featurizer.collate(windows)
    return batch, gold_classes(windows, examples, shape=tuple(batch.span_mask.shape))


def gold_classes(
    windows: Windows, examples: Sequence[Example], *, shape: tuple[int, ...]
) -> Tensor:
    """Class of every span of a batch; gold wider than W has no place in it. Shape (B, T, W)."""
    gold = torch.zeros(shape, dtype=torch.long)
    _, _, max_width = shape
    columns = (windows.sentence, windows.start_token, windows.num_tokens)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for row, (sentence, start_token, num_tokens) in enumerate(rows):
        for start, end, label in examples[sentence].spans:
            place = start - start_token
            if end - start <= max_width and place >= 0 and end - start_token <= num_tokens:
                gold[row, place, end - start - 1] = label
    return gold


def span_loss(
    logits: Tensor, gold: Tensor, span_mask: Tensor, *, config: TrainingConfig, epoch: float
) -> Tensor:
    """Loss over the spans a batch answers for.

    Args:
        logits: Shape (B, T, W, C).
        gold: Class of each span. Shape (B, T, W).
        span_mask: Shape (B, T, W).
        config: Which loss, and its weights.
        epoch: Epochs done so far, with fractions; anneals the evidential loss.
    """
    logits, gold = logits[span_mask], gold[span_mask]
    if config.loss == "cross_entropy":
        return weighted_cross_entropy(logits, gold, non_entity_weight=config.non_entity_weight)
    return evidential_loss(
        logits,
        gold,
        non_entity_weight=config.non_entity_weight,
        annealing=min(1.0, epoch / config.annealing_epochs),
    )


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW with one learning rate for the encoder and one for all that is new.

    Vectors such as biases and norms do not decay.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = (name.startswith("encoder."), parameter.ndim >= 2)
        groups.setdefault(key, []).append(parameter)
    rates = {True: config.encoder_learning_rate, False: config.head_learning_rate}
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": rates[of_encoder],
                "peak_lr": rates[of_encoder],
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (of_encoder, decays), parameters in groups.items()
        ],
        fused=True,
    )


def schedule(step: int, total_steps: int, *, warmup_share: float) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then linear decay to zero.

    A function of the step alone, so a resumed run needs no state of a scheduler.
    """
    warmup_steps = int(total_steps * warmup_share)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


class WeightAverage:
    """A running average of the weights a training passes through, and a model that has it.

    The average is nearer to the middle of a flat region than single steps, and better calibrated.
    Early steps weigh less, so it forgets the untrained head.

    Args:
        model: Is trained; each update looks at its weights.
        decay: Share of the average that a step keeps; 0 to average nothing.
        averaged: A model with the average so far; None to begin at the weights of `model`.

    Attributes:
        model: Has the average, in evaluation mode; with decay 0 the trained model itself.

    Reference:
        Polyak and Juditsky (1992); the exponential form as in Tarvainen and Valpola (2017).
    """

    EVERY_STEPS = 4
    """An update costs a pass over all weights, so it stands for this many steps."""

    def __init__(self, model: SpanNER, *, decay: float, averaged: SpanNER | None = None) -> None:
        self._trained = model
        self._decay = decay
        self.model = model if not decay else averaged or copy.deepcopy(model)
        if decay:
            self.model.eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the trained weights in, if it is their turn.

        Args:
            step: Steps done, this one counted.
        """
        if not self._decay or step % self.EVERY_STEPS:
            return
        kept = min(self._decay, (1 + step) / (10 + step)) ** self.EVERY_STEPS
        trained = dict(self._trained.named_parameters())
        # By name: a model that was loaded may have its encoder's weights in another order.
        for name, averaged in self.model.named_parameters():
            averaged.lerp_(trained[name], 1.0 - kept)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as named tensors, so that it can be stored without a pickle."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value.contiguous()
        for index, values in state.items()
        for name, value in values.items()
    }


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave; the parameter groups stay as they are."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
