"""What one rank of a training does.

Every rank takes the same number of steps: Ray Train splits the corpus into equal shares, and a
share is read in buffers of fixed size. All that is random is a function of (seed, epoch, rank), so
a resumed epoch repeats what the lost one drew.
"""

import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from safetensors.torch import load_file, load_model, save_file, save_model

from linkner_ray.config import TrainConfig
from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.corpora.scores import Counts
from linkner_ray.corpora.tables import table_sentences
from linkner_ray.errors import StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.spanner.calibration.dev_choices import decide_on_dev
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.checkpoint import WEIGHTS
from linkner_ray.spanner.fitting import (
    Example,
    WeightAverage,
    length_grouped_batches,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    schedule,
    span_loss,
    training_batch,
)
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.self_check import choose_sentences, record_self_check
from linkner_ray.training.dev_set import join, look_at
from linkner_ray.training.reports import EpochReport, TrainingState

logger = logging.getLogger(__name__)

BUFFER_SENTENCES = 2**14
"""Sentences of a rank that are shuffled and grouped by length together."""

READ_EVERY_STEPS = 50
"""Steps whose losses are read together: each time, the GPU has to be waited for."""

OPTIMIZER = "optimizer.safetensors"
TRAINED_WEIGHTS = "trained.safetensors"
"""Where the last step ended; the checkpoint's own weights are the average."""


@dataclass(frozen=True, kw_only=True)
class _Run:
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


def train_worker(settings: dict[str, Any]) -> str | None:
    """The loop of one rank.

    Returns:
        Why training stopped before its end; None if it did not. It is no error of the worker,
        which Ray would restart only to come to the same numbers.
    """
    run, state = _start(settings)
    try:
        _train(run, state)
    except NotFiniteError as error:
        return str(error)
    return None


def _train(run: _Run, state: TrainingState) -> None:
    """Train, score and report epochs until the last, or until dev F1 rises no more."""
    training = run.config.training
    for epoch in range(state.epoch, training.epochs):
        if state.stale_epochs >= training.patience:
            break
        loss, seconds = _train_epoch(run, epoch)
        counts, calibration = _evaluate(run)
        run.average.model.calibration = calibration
        report = EpochReport(
            epoch=epoch + 1,
            loss=loss,
            f1=counts.f1,
            precision=counts.precision,
            recall=counts.recall,
            steps=run.steps_per_epoch,
            seconds=seconds,
        )
        state = TrainingState(reports=(*state.reports, report))
        if run.rank == 0:
            logger.info(
                "epoch %d of %d: loss %.4f, dev F1 %.4f, %.0f s",
                *(report.epoch, training.epochs, report.loss, report.f1, report.seconds),
            )
        _report(run, state)


def _start(settings: dict[str, Any]) -> tuple[_Run, TrainingState]:
    """Build the model and put back what an earlier attempt saved."""
    config = TrainConfig.model_validate(settings["config"])
    label_set = LabelSet.model_validate(settings["label_set"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    if config.workers.num_threads:
        torch.set_num_threads(config.workers.num_threads)
    torch.manual_seed(config.training.seed)
    saved = ray.train.get_checkpoint()
    state, tensors, averaged = TrainingState(), {}, None
    device = ray.train.torch.get_device()
    model = SpanNER.from_encoder(config.model, label_set, loss=config.training.loss).to(device)
    if saved is not None:
        with saved.as_directory() as folder:
            averaged = SpanNER.from_pretrained(folder).to(device)
            # An epoch of an earlier release has no average beside what was trained.
            trained = Path(folder) / TRAINED_WEIGHTS
            load_model(model, trained if trained.is_file() else Path(folder) / WEIGHTS)
            state = TrainingState.read(Path(folder))
            tensors = load_file(Path(folder) / OPTIMIZER)
    optimizer = make_optimizer(model, config.training)
    load_optimizer_tensors(optimizer, tensors)
    average = WeightAverage(model, decay=config.training.average_decay, averaged=averaged)
    average.model.novelty = NoveltyFeatures(**settings["novelty"])
    dev = table_sentences(settings["dev"])
    run = _Run(
        config=config,
        label_set=label_set,
        dev=dev[rank::world],
        dev_tokens=[one.tokens for part in range(world) for one in dev[part::world]],
        self_check=choose_sentences([sentence.tokens for sentence in dev]),
        model=model,
        average=average,
        parallel=ray.train.torch.prepare_model(model),
        optimizer=optimizer,
        rank=rank,
        world=world,
        steps_per_epoch=_steps_per_epoch(
            settings["num_sentences"] // world, config.training.batch_size // world
        ),
        uses_bfloat16=config.training.dtype == "bfloat16",
    )
    return run, state


def _steps_per_epoch(num_sentences: int, batch_size: int) -> int:
    """Steps of one rank: each buffer is divided into batches by itself."""
    buffers, rest = divmod(num_sentences, BUFFER_SENTENCES)
    return buffers * -(-BUFFER_SENTENCES // batch_size) + -(-rest // batch_size)


def _train_epoch(run: _Run, epoch: int) -> tuple[float, float]:
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
        if len(unread) == READ_EVERY_STEPS:
            losses += _read_losses(run, unread, first_step + len(losses))
            unread.clear()
            if run.rank == 0:
                logger.info(
                    "epoch %d step %d of %d: loss %.4f, %.3f s a step",
                    *(epoch + 1, len(losses), run.steps_per_epoch),
                    *(float(np.mean(losses[-READ_EVERY_STEPS:])),),
                    *((time.perf_counter() - started) / len(losses),),
                )
    if unread:
        losses += _read_losses(run, unread, first_step + len(losses))
    return float(np.mean(_gather(run, float(np.mean(losses))))), time.perf_counter() - started


def _train_step(run: _Run, examples: Sequence[Example], epoch: float) -> torch.Tensor:
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


def _read_losses(run: _Run, numbers: Sequence[torch.Tensor], first_step: int) -> list[float]:
    """The losses of steps, given what `_train_step` gave for each of them.

    Raises:
        NotFiniteError: On all ranks, if a loss or a norm is NaN or infinite on one; names the first
            step with such a number, and what it was made with.
    """
    own = torch.stack([*numbers]).tolist()
    broken = [(place, *pair) for place, pair in enumerate(own) if not np.isfinite(pair).all()]
    found = [one for of_rank in _gather(run, broken[:1]) for one in of_rank]
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


def _epoch_batches(run: _Run, generator: np.random.Generator) -> Iterator[list[Example]]:
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


def _evaluate(run: _Run) -> tuple[Counts, Calibration]:
    """Score dev, each rank its part, and let all of it decide on the calibration."""
    model = run.average.model
    counts, dev = join(_gather(run, look_at(model, run.dev)), run.dev_tokens)
    novelty = model.novelty
    return counts, decide_on_dev(dev, classes=run.label_set.classes, novelty=novelty)


def _gather(run: _Run, value: Any) -> list[Any]:  # noqa: ANN401 - any small object
    """The value of every rank, in order."""
    if run.world == 1:
        return [value]
    gathered: list[Any] = [None] * run.world
    dist.all_gather_object(gathered, value)
    return gathered


def _report(run: _Run, state: TrainingState) -> None:
    """Hand the epoch to Ray Train, rank 0 with the weights; a barrier for all ranks."""
    latest = state.reports[-1]
    metrics = {"epoch": latest.epoch, "loss": latest.loss, "f1": latest.f1}
    if run.rank != 0:
        ray.train.report(metrics, checkpoint=None)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run.average.model.save_pretrained(folder)
        record_self_check(run.average.model, run.self_check).write(folder)
        save_model(run.model, str(folder / TRAINED_WEIGHTS))
        save_file(optimizer_tensors(run.optimizer), folder / OPTIMIZER)
        state.write(folder)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(name))
