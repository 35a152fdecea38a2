"""The steps of one rank of a training.

Every rank takes the same number of steps: Ray Train splits the corpus into equal shares, and a
share is read in buffers of fixed size. All that is random is a function of (seed, epoch, rank), so
a resumed epoch repeats what the lost one drew.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data
import ray.train
import torch
import torch.distributed as dist

from linkner_ray.config import TrainConfig
from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.corpora.tables import table_sentences
from linkner_ray.errors import StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.spanner.fitting import (
    Example,
    WeightAverage,
    length_grouped_batches,
    schedule,
    span_loss,
    training_batch,
)
from linkner_ray.spanner.model import SpanNER

BUFFER_SENTENCES = 2**14
"""Sentences of a rank that are shuffled and grouped by length together."""

READ_EVERY_STEPS = 50
"""Steps whose losses are read together: each time, the GPU has to be waited for."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a worker holds while it trains."""

    config: TrainConfig
    label_set: LabelSet
    dev: Sequence[LabelledSentence]
    """This rank's part."""

    dev_tokens: Sequence[Sequence[str]]
    """Of all of dev, the parts of all ranks one after the other."""

    self_check: Sequence[Sequence[str]]
    model: SpanNER
    average: WeightAverage
    parallel: torch.nn.Module
    optimizer: torch.optim.Optimizer
    rank: int
    world: int
    steps_per_epoch: int
    uses_bfloat16: bool
    tell: Callable[[int, str], None]
    """Says how many steps are done, with a note; of the first rank."""

    @property
    def total_steps(self) -> int:
        """Steps of all epochs."""
        return self.steps_per_epoch * self.config.training.epochs

    def rate_share(self, step: int) -> float:
        """Share of its peak that each learning rate has at a step."""
        warmup_share = self.config.training.warmup_share
        return schedule(step, self.total_steps, warmup_share=warmup_share)


class NotFiniteError(StartupError):
    """A loss or a gradient is NaN or infinite: nothing of this epoch can be used."""


def steps_per_epoch(num_sentences: int, batch_size: int) -> int:
    """Steps of one rank: each buffer is divided into batches by itself."""
    buffers, rest = divmod(num_sentences, BUFFER_SENTENCES)
    return buffers * -(-BUFFER_SENTENCES // batch_size) + -(-rest // batch_size)


def train_epoch(run: Run, epoch: int) -> tuple[float, float]:
    """Train one epoch; mean loss over steps and ranks, and seconds.

    Raises:
        NotFiniteError: As `_read_losses`.
    """
    training = run.config.training
    seed = np.random.SeedSequence([training.seed, epoch, run.rank])
    torch.manual_seed(int(seed.generate_state(1)[0]))
    first_step = epoch * run.steps_per_epoch
    losses: list[float] = []
    unread: list[torch.Tensor] = []
    run.parallel.train()
    started = time.perf_counter()
    for examples in _epoch_batches(run, np.random.default_rng(seed)):
        step = first_step + len(losses) + len(unread)
        for group in run.optimizer.param_groups:
            group["lr"] = run.rate_share(step) * group["peak_lr"]
        unread.append(_train_step(run, examples, step / run.steps_per_epoch))
        run.average.update(step + 1)
        if run.rank == 0:
            loss = f", loss {np.mean(losses[-READ_EVERY_STEPS:]):.4f}" if losses else ""
            run.tell(step + 1, f"epoch {epoch + 1} of {run.config.training.epochs}{loss}")
        if len(unread) == READ_EVERY_STEPS:
            losses += _read_losses(run, unread, first_step + len(losses))
            unread.clear()
    if unread:
        losses += _read_losses(run, unread, first_step + len(losses))
    return float(np.mean(gather(run, float(np.mean(losses))))), time.perf_counter() - started


def _train_step(run: Run, examples: Sequence[Example], epoch: float) -> torch.Tensor:
    """One step; its loss, and the norm of its gradient over all ranks. Shape (2,)."""
    device = run.model.device
    batch, gold = training_batch(run.model, examples)
    batch = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=run.uses_bfloat16):
        logits = run.parallel(batch)
    loss = span_loss(
        logits, gold.to(device), batch.span_mask, config=run.config.training, epoch=epoch
    )
    run.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.config.training.max_grad_norm)
    run.optimizer.step()
    return torch.stack([loss.detach(), norm])


def _read_losses(run: Run, numbers: Sequence[torch.Tensor], first_step: int) -> list[float]:
    """The losses of steps, given what `_train_step` gave for each of them.

    Raises:
        NotFiniteError: On all ranks, if a loss or a norm is NaN or infinite on one; names the first
            step with such a number, and what it was made with.
    """
    own = torch.stack([*numbers]).tolist()
    broken = [(place, *pair) for place, pair in enumerate(own) if not np.isfinite(pair).all()]
    found = [one for of_rank in gather(run, broken[:1]) for one in of_rank]
    if not found:
        return [loss for loss, _ in own]
    place, loss, norm = min(found)
    step, training = first_step + place, run.config.training
    share = run.rate_share(step)
    exact = "" if training.dtype == "float32" else ", or set training.dtype=float32"
    raise NotFiniteError(
        f"step {step + 1} of {run.total_steps} (epoch {step // run.steps_per_epoch + 1}) has a "
        f"loss of {loss:g} and a gradient of norm {norm:g}, at learning rates of "
        f"{share * training.encoder_learning_rate:.3g} (encoder) and "
        f"{share * training.head_learning_rate:.3g} (head), in {training.dtype}; lower "
        "training.encoder_learning_rate and training.head_learning_rate, or raise "
        f"training.warmup_share{exact}"
    )


def _epoch_batches(run: Run, generator: np.random.Generator) -> Iterator[list[Example]]:
    """This rank's share of the corpus in shuffled batches of like length."""
    classes = {name: index for index, name in enumerate(run.label_set.classes)}
    batch_size = run.config.training.batch_size // run.world
    shard = ray.train.get_dataset_shard("train")
    for table in shard.iter_batches(batch_size=BUFFER_SENTENCES, batch_format="pyarrow"):
        examples = [
            Example(
                tokens=sentence.tokens,
                spans=[(s.start_token, s.end_token, classes[s.label]) for s in sentence.spans],
            )
            for sentence in table_sentences(table)
        ]
        lengths = [len(example.tokens) for example in examples]
        for indices in length_grouped_batches(lengths, batch_size, generator=generator):
            yield [examples[index] for index in indices]


def gather(run: Run, value: Any) -> list[Any]:  # noqa: ANN401 - any small object
    """The value of every rank, in order."""
    if run.world == 1:
        return [value]
    gathered: list[Any] = [None] * run.world
    dist.all_gather_object(gathered, value)
    return gathered
