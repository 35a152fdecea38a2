"""The driver of a training: checks, starts the workers, publishes the best epoch."""

import logging
import shutil
import tempfile
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.fs
import ray
import ray.data
import ray.train
import ray.train.torch
from ray.train.v2._internal.callbacks.placement_group_callback import (
    PlacementGroupCleanerCallback,
)
from ray.train.v2.api.callback import RayTrainCallback
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.result import Result

from linkner_ray.config import TrainConfig
from linkner_ray.corpora.labelled import unreachable_spans
from linkner_ray.corpora.tables import corpus_table
from linkner_ray.errors import ConfigError, DataError, StartupError
from linkner_ray.extract.ray_start import start_ray
from linkner_ray.extract.resources import num_fitting
from linkner_ray.logs import progress
from linkner_ray.runs.folder import json_digest
from linkner_ray.runs.manifest import as_json
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.checkpoint import (
    CALIBRATION,
    DECISIVE_FILES,
    MODEL_CARD,
    OPTIONAL_FILES,
    SELF_CHECK_FILES,
    read_json,
)
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.publishing import publish_checkpoint
from linkner_ray.spanner.self_check import SelfCheck, measure_bfloat16
from linkner_ray.storage import Folder
from linkner_ray.training.content import CONTENT, check_content, content_of, with_dtype
from linkner_ray.training.dev_set import novelty_of, thresholds_on
from linkner_ray.training.model_card import model_card
from linkner_ray.training.plan import TrainingPlan
from linkner_ray.training.progress import FILE, look
from linkner_ray.training.reports import TrainingResult, TrainingState
from linkner_ray.training.steps import steps_per_epoch
from linkner_ray.training.worker import train_worker

logger = logging.getLogger(__name__)

START_TRIES = 60
"""Further tries, of a minute each, to start workers that find no room; by default without end."""


def train(plan: TrainingPlan) -> TrainingResult:
    """Train a SpanNER and publish the best epoch's checkpoint.

    Needs a running Ray, or starts one on this machine. A run that was cut short continues when it
    is started again: it is known by the content of corpora, label set and encoder and by the
    settings that decide the weights, so that another corpus under the same path is another run.

    Raises:
        ConfigError: If the encoder cannot be loaded, the cluster is too small, or `output.run_name`
            is that of a training of other content.
        StartupError: If a loss or gradient is NaN or infinite, or workers fail more often than
            `workers.max_failures`.
    """
    plan = with_dtype(plan)
    config = plan.config
    content = content_of(plan)
    run_name = config.output.run_name or f"{plan.label_set.name}-{json_digest(content)}"
    folder_of_run = Folder.at(config.output.storage).below(run_name)
    check_content(folder_of_run, run_name, content)
    start_ray()
    _check_cluster(config)
    folder_of_run.write_whole(CONTENT, as_json(content))
    result = _fit(plan, run_name)
    if result.return_value is not None:
        raise StartupError(
            f"training '{run_name}' stopped and nothing is published: {result.return_value}"
        )
    if result.checkpoint is None or not result.best_checkpoints:
        raise StartupError(f"training '{run_name}' ended without a checkpoint; see the Ray logs")
    best_checkpoint, _ = max(result.best_checkpoints, key=lambda pair: pair[1]["f1"])
    with result.checkpoint.as_directory() as latest:
        state = TrainingState.read(Path(latest))
    with best_checkpoint.as_directory() as folder:
        best = TrainingState.read(Path(folder)).reports[-1]
        calibration = Calibration.from_json(read_json(Path(folder) / CALIBRATION))
        finished = TrainingResult(
            checkpoint=config.output.checkpoint,
            run_name=run_name,
            best=best,
            epochs=state.reports,
            calibration=calibration,
            train_sentences=len(plan.train.sentences),
            dev_sentences=len(plan.dev.sentences),
            train_unreachable=unreachable_spans(plan.train.sentences, config.model.max_width),
            dev_unreachable=unreachable_spans(plan.dev.sentences, config.model.max_width),
        )
        _publish(Path(folder), finished, plan)
    return finished


def _check_cluster(config: TrainConfig) -> None:
    """Check that the workers fit the nodes: Ray would wait for room that never comes."""
    workers = config.workers
    known = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in known if node["Alive"]]
    fitting = num_fitting(nodes, workers.cpus, workers.gpus)
    if fitting < workers.num_workers:
        there = "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise ConfigError(
            f"workers.num_workers = {workers.num_workers} of {workers.cpus:g} CPUs and "
            f"{workers.gpus:g} GPUs each, but the nodes hold {fitting} of them, since none spans "
            f"two (nodes: {there}); lower workers.num_workers, workers.cpus or workers.gpus"
        )


class _Trainer(ray.train.torch.TorchTrainer):
    """Ray's trainer without the actor that frees the workers' resources when a controller dies.

    That actor asks a dashboard whether the controller lives. If ours has none, it asks that of any
    other Ray on the machine and frees the resources of a living run. Ours end with this process.
    """

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [one for one in callbacks if not isinstance(one, PlacementGroupCleanerCallback)]


def _fit(plan: TrainingPlan, run_name: str) -> Result:
    """Run the workers to the end."""
    config = plan.config
    ray.data.DataContext.get_current().enable_progress_bars = False
    table = corpus_table(plan.train.sentences)
    order = np.random.default_rng(config.training.seed).permutation(table.num_rows)
    storage_path, filesystem = _storage(config.output.storage)
    run = Folder.at(config.output.storage).below(run_name)
    workers = config.workers
    familiar = novelty_of(plan.train.sentences)
    trainer = _Trainer(
        train_worker,  # type: ignore[arg-type]  # may return a value
        train_loop_config={
            "config": config.shown(),
            "label_set": plan.label_set.model_dump(mode="json"),
            "dev": corpus_table(plan.dev.sentences),
            "num_sentences": table.num_rows,
            "run": run,
            "novelty": {f.name: getattr(familiar, f.name) for f in fields(familiar)},
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.gpus > 0,
            resources_per_worker={"CPU": workers.cpus}
            | ({"GPU": workers.gpus} if workers.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=run_name,
            storage_path=storage_path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(
                max_failures=workers.max_failures, controller_failure_limit=START_TRIES
            ),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=1, checkpoint_score_attribute="f1"
            ),
        ),
        datasets={"train": ray.data.from_arrow(table.take(order))},
    )
    run.remove(FILE)  # of an earlier start
    num, batch_size = workers.num_workers, config.training.batch_size
    total = steps_per_epoch(table.num_rows // num, batch_size // num) * config.training.epochs
    try:
        with progress.step("steps", total, refresh=partial(look, run)):
            result = cast("Result", trainer.fit())
    except ray.train.TrainingFailedError as error:
        raise StartupError(
            f"training '{run_name}' gave up, at most {workers.max_failures} restarts are allowed: "
            f"{str(error).strip()}\nWhat it finished is kept in {config.output.storage}, so the "
            "same command continues"
        ) from error
    run.remove(FILE)
    return result


def _storage(path: str) -> tuple[str, pa.fs.FileSystem | None]:
    """Ray's way to name a folder: a local path, or a path without scheme and its file system."""
    folder = Folder.at(path)
    if folder.is_local:
        return folder.root, None
    return folder.root, pa.fs.PyFileSystem(pa.fs.FSSpecHandler(folder.filesystem))


def _publish(folder: Path, result: TrainingResult, plan: TrainingPlan) -> None:
    """Copy what makes a checkpoint out of an epoch's folder; add thresholds and the model card."""
    counters: dict[str, float | str] = {
        "train sentences": result.train_sentences,
        "train content": plan.train.digest,
        "dev sentences": result.dev_sentences,
        "dev content": plan.dev.digest,
        "train entities wider than the model looks": result.train_unreachable,
        "dev entities wider than the model looks": result.dev_unreachable,
        "epochs": len(result.epochs),
        "steps": result.steps,
        "seconds per step": round(result.seconds_per_step, 3),
    }
    with tempfile.TemporaryDirectory() as staging:
        for name in (*DECISIVE_FILES, *OPTIONAL_FILES, *SELF_CHECK_FILES):
            target = Path(staging) / name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, target)
        card = model_card(
            plan.config,
            plan.label_set,
            calibration=result.calibration,
            best=asdict(result.best),
            counters=counters,
        )
        (Path(staging) / MODEL_CARD).write_text(card, encoding="utf-8")
        model = SpanNER.from_pretrained(staging)
        try:
            thresholds_on(model, plan.dev.sentences).write(Path(staging))
        except DataError as error:
            logger.warning("%s: the checkpoint keeps no thresholds: %s", plan.dev.path, error)
        self_check = SelfCheck.read(Path(staging))
        if self_check is not None:
            measure_bfloat16(self_check, model).write(Path(staging))
        publish_checkpoint(Path(staging), plan.config.output.checkpoint)
