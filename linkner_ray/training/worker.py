"""What one rank of a training does: it starts, trains and scores epochs, and reports them."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from safetensors.torch import load_file, load_model, save_file, save_model

from linkner_ray.config import TrainConfig
from linkner_ray.corpora.scores import Counts
from linkner_ray.corpora.tables import table_sentences
from linkner_ray.labels import LabelSet
from linkner_ray.spanner.calibration.dev_choices import decide_on_dev
from linkner_ray.spanner.calibration.novelty import NoveltyFeatures
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.fitting import (
    WeightAverage,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.self_check import choose_sentences, record_self_check
from linkner_ray.training.dev_set import join, look_at
from linkner_ray.training.progress import Told
from linkner_ray.training.reports import EpochReport, TrainingState
from linkner_ray.training.steps import NotFiniteError, Run, gather, steps_per_epoch, train_epoch

logger = logging.getLogger(__name__)

OPTIMIZER = "optimizer.safetensors"
TRAINED_WEIGHTS = "trained.safetensors"
"""Where the last step ended; the checkpoint's own weights are the average."""


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


def _train(run: Run, state: TrainingState) -> None:
    """Train, score and report epochs until the last, or until dev F1 rises no more."""
    training = run.config.training
    for epoch in range(state.epoch, training.epochs):
        if state.stale_epochs >= training.patience:
            break
        loss, seconds = train_epoch(run, epoch)
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


def _start(settings: dict[str, Any]) -> tuple[Run, TrainingState]:
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
            load_model(model, Path(folder) / TRAINED_WEIGHTS)
            state = TrainingState.read(Path(folder))
            tensors = load_file(Path(folder) / OPTIMIZER)
    optimizer = make_optimizer(model, config.training)
    load_optimizer_tensors(optimizer, tensors)
    average = WeightAverage(model, decay=config.training.average_decay, averaged=averaged)
    average.model.novelty = NoveltyFeatures(**settings["novelty"])
    average.model.languages = config.training.languages
    dev = table_sentences(settings["dev"])
    run = Run(
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
        steps_per_epoch=steps_per_epoch(
            settings["num_sentences"] // world, config.training.batch_size // world
        ),
        uses_bfloat16=config.training.dtype == "bfloat16",
        tell=Told(settings["run"]),
    )
    return run, state


def _evaluate(run: Run) -> tuple[Counts, Calibration]:
    """Score dev, each rank its part, and let all of it decide on the calibration."""
    model = run.average.model
    counts, dev = join(gather(run, look_at(model, run.dev)), run.dev_tokens)
    novelty = model.novelty
    return counts, decide_on_dev(dev, classes=run.label_set.classes, novelty=novelty)


def _report(run: Run, state: TrainingState) -> None:
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
