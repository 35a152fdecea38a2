"""Calibrating a finished checkpoint anew on a labelled set.

What can be wrong with its paths and files is found before a model library is imported.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.scores import Counts
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.spanner.calibration.temperature import Calibration
from linkner_ray.spanner.calibration.thresholds import THRESHOLDS, Thresholds
from linkner_ray.spanner.checkpoint import MODEL_CARD, local_checkpoint, read_parts
from linkner_ray.spanner.publishing import check_publishable, publish_checkpoint
from linkner_ray.training.model_card import with_calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """What a labelled set decided about a checkpoint.

    Attributes:
        counts: Strict counts on the set, of the model before it is calibrated.
        before: What an earlier set had decided.
        calibration: Temperature, recalibration and near-miss rules.
        thresholds: For routing.
    """

    counts: Counts
    before: Calibration
    calibration: Calibration
    thresholds: Thresholds

    def describe(self) -> str:
        """What changed, for a reader."""
        rows = [
            {
                "decided": words,
                "before": _shown(getattr(self.before, name)),
                "now": _shown(getattr(self.calibration, name)),
            }
            for name, words in _DECIDED.items()
        ]
        found = self.thresholds.estimates["confidence"]
        shares = ", ".join(f"asked={share}% {value:.3f}" for share, value in found.asked.items())
        return "\n\n".join(
            (
                f"Calibrated on {self.calibration.num_spans:,} spans; its weights stay.",
                markdown_table(rows),
                f"Thresholds for routing.threshold_for: {shares}; all are in {THRESHOLDS}.",
                f"F1 on this set is {self.counts.f1:.4f} before calibration. `linkner evaluate` "
                "scores the calibrated model, which may prefer another of two overlapping spans.",
            )
        )


_DECIDED = {
    "temperature": "temperature",
    "ece_after": "calibration error",
    "ece_held_out": "calibration error, held out",
    "near_miss_floor": "near misses from an entity probability of",
    "max_near_misses": "near misses in a sentence, at most",
    "certain_confidence": "none over an entity of confidence",
    "candidate_recall": "share of the entities among the candidates",
    "extra_share": "near misses for each predicted entity",
}
"""Fields of a calibration in words."""


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def calibrate_checkpoint(checkpoint: str, dev: str, *, train: str | None = None) -> Calibrated:
    """Let a labelled set decide anew on temperature, recalibration, near-miss rules and thresholds.

    The checkpoint is replaced by one that differs in these, in its self-check and its model card.
    The training set is needed only if the checkpoint does not know it itself, as those of earlier
    releases.

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
    before = model.calibration
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
    return Calibrated(
        counts=counts, before=before, calibration=model.calibration, thresholds=thresholds
    )
