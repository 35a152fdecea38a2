"""Calibrating a finished checkpoint anew on a labelled set.

What can be wrong with its paths and files is found before a model library is imported.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.scores import Counts
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.calibration.thresholds import Thresholds
from linkner_ray.spanner.checkpoint import MODEL_CARD, local_checkpoint, read_parts
from linkner_ray.spanner.publishing import check_publishable, publish_checkpoint
from linkner_ray.training.model_card import with_calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What a labelled set decided about a checkpoint.

    Attributes:
        counts: Strict counts on the set.
        calibration: Temperature, recalibration and near-miss rules.
        thresholds: For routing.
    """

    counts: Counts
    calibration: Calibration
    thresholds: Thresholds


def calibrate_checkpoint(checkpoint: str, dev: str, *, train: str | None = None) -> Calibrated:
    """Let a labelled set decide anew on temperature, recalibration, near-miss rules and thresholds.

    The checkpoint is replaced by one that differs in these, in its self-check and its model card.

    Args:
        checkpoint: Folder that training wrote, local or with a scheme.
        dev: Labelled set in the checkpoint's labels.
        train: What the checkpoint was trained on; needed only if it does not know that itself, as
            checkpoints of earlier releases.

    Raises:
        ConfigError: If there is no such checkpoint or file, or the checkpoint's folder holds
            something else besides.
        DataError: If a file is malformed, uses a label the checkpoint does not know, or is too
            small to decide.
        StartupError: If the checkpoint is incomplete or damaged.
    """
    folder = local_checkpoint(checkpoint)
    label_set = read_parts(folder).label_set
    check_publishable(checkpoint)
    sentences = read_corpus(dev, label_set=label_set).sentences
    known = None if train is None else read_corpus(train, label_set=label_set).sentences

    from linkner_ray.spanner.calibration.dev_choices import decide_on_dev
    from linkner_ray.spanner.model import SpanNER
    from linkner_ray.spanner.self_check import (
        choose_sentences,
        measure_bfloat16,
        record_self_check,
    )
    from linkner_ray.training.dev_set import join, look_at, novelty_of, thresholds_on

    model = SpanNER.from_pretrained(str(folder))
    if known is not None:
        model.novelty = novelty_of(known)
    tokens = [one.tokens for one in sentences]
    counts, seen = join([look_at(model, sentences)], tokens)
    model.calibration = decide_on_dev(seen, classes=label_set.classes, novelty=model.novelty)
    thresholds = thresholds_on(model, sentences)
    with tempfile.TemporaryDirectory() as name:
        staging = Path(name)
        model.save_pretrained(staging)
        self_check = record_self_check(model, choose_sentences(tokens))
        measure_bfloat16(self_check, model).write(staging)
        thresholds.write(staging)
        card = folder / MODEL_CARD
        if card.is_file():
            text = with_calibration(card.read_text(encoding="utf-8"), model.calibration)
            (staging / MODEL_CARD).write_text(text, encoding="utf-8")
        publish_checkpoint(staging, checkpoint)
    return Calibrated(counts=counts, calibration=model.calibration, thresholds=thresholds)
