"""What a training will do, checked as far as it can be without Ray and without a model library."""

from dataclasses import dataclass

from linkner_ray.config import TrainConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.labelled import Corpus
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.labels import LabelSet, load_label_set
from linkner_ray.spanner.pretrained import pin_encoder
from linkner_ray.spanner.publishing import check_publishable
from linkner_ray.storage import Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """A training whose inputs are there.

    Attributes:
        config: With the encoder pinned to what its name stands for now.
        label_set: Read.
        train: Corpus to learn from.
        dev: Corpus to select and calibrate on.
    """

    config: TrainConfig
    label_set: LabelSet
    train: Corpus
    dev: Corpus


def plan_training(config: TrainConfig) -> TrainingPlan:
    """Read the inputs, and find what is wrong before anything is started.

    Raises:
        ConfigError: If a path, the label set, the encoder or the number of workers is wrong, or
            `output.checkpoint` holds something else than a checkpoint.
        DataError: If a corpus is not readable, uses unknown labels, or is too small.
    """
    workers, batch_size = config.workers.num_workers, config.training.batch_size
    if batch_size % workers:
        raise ConfigError(
            f"training.batch_size = {batch_size} cannot be shared evenly by workers.num_workers = "
            f"{workers}; make it a multiple"
        )
    check_publishable(config.output.checkpoint)
    Folder.at(config.output.storage).check_writable()
    label_set = load_label_set(config.corpus.label_set)
    encoder = pin_encoder(config.model.encoder)
    train, dev = (
        read_corpus(path, label_set=label_set, format=config.corpus.format)
        for path in (config.corpus.train, config.corpus.dev)
    )
    if len(train.sentences) < workers:
        raise DataError(
            f"{config.corpus.train}: {len(train.sentences)} sentences for {workers} workers; lower "
            "workers.num_workers"
        )
    pinned = config.model_copy(
        update={"model": config.model.model_copy(update={"encoder": encoder})}
    )
    return TrainingPlan(config=pinned, label_set=label_set, train=train, dev=dev)
