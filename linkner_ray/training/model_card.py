"""The README of a checkpoint: what it is, what it was trained on, how good it is, its limits."""

import re
from collections.abc import Mapping

from linkner_ray.config import TrainConfig
from linkner_ray.labels import LabelSet
from linkner_ray.reporting.tables import markdown_pairs
from linkner_ray.spanner.calibration.temperature import Calibration

_TEMPLATE = """\
# SpanNER: {name}

Span classifier for named entities, encoder `{encoder}`.

Load it with `SpanNER.from_pretrained("<this folder>")` from `linkner_ray.spanner.model`.

## Labels

{labels}

## Training

{facts}

## Dev scores

Strict entity F1 {best[f1]:.4f} (precision {best[precision]:.4f}, recall {best[recall]:.4f}) at
epoch {best[epoch]}. Every gold entity counts, also those too wide to be found.

## Calibration

{calibration}

## Limits

- Finds entities of at most {max_width} tokens, and none inside another.
- Sentences longer than {max_subwords} subwords are read in overlapping windows.
- Scores hold for text like the dev set; on other text expect less, and probabilities that promise
  too much.
"""


def model_card(
    config: TrainConfig,
    label_set: LabelSet,
    *,
    calibration: Calibration,
    best: Mapping[str, float],
    counters: Mapping[str, float | str],
) -> str:
    """Render the model card; `best` has epoch and scores on dev, counters are listed as given."""
    corpus = config.shown()["corpus"]
    labels = "\n".join(f"- `{one.id}` {one.name}: {one.description}" for one in label_set.labels)
    return _TEMPLATE.format(
        name=label_set.name,
        encoder=config.model.encoder,
        labels=labels,
        facts=markdown_pairs(
            {
                "train": f"`{corpus['train']}`",
                "dev": f"`{corpus['dev']}`",
                "languages": ", ".join(config.training.languages),
                "loss": config.training.loss,
                "learning rate of encoder and head": f"{config.training.encoder_learning_rate}, "
                f"{config.training.head_learning_rate}",
                "sentences in a step": str(config.training.batch_size),
                "seed": str(config.training.seed),
                **{n: v if isinstance(v, str) else f"{v:,}" for n, v in counters.items()},
            }
        ),
        calibration=_calibration_line(calibration),
        max_width=config.model.max_width,
        max_subwords=config.model.max_subwords,
        best=best,
    )


def with_calibration(card: str, calibration: Calibration) -> str:
    """The card with its section on calibration written anew."""
    pattern = re.compile(r"(?<=^## Calibration\n\n).*?(?=\n\n## )", re.DOTALL | re.MULTILINE)
    return pattern.sub(lambda _: _calibration_line(calibration), card)


def _calibration_line(calibration: Calibration) -> str:
    if calibration.ece_before is None or calibration.ece_after is None:
        return "Probabilities are not calibrated."
    text = (
        f"Temperature {calibration.temperature:.3f}, fitted on {calibration.num_spans:,} dev "
        "spans; expected calibration error of predicted entities (15 bins of equal mass) "
        f"{calibration.ece_before:.4f} before and {calibration.ece_after:.4f} after"
    )
    if calibration.ece_held_out is not None:
        text += f", {calibration.ece_held_out:.4f} for each half of dev at the other's temperature"
    if calibration.brier is not None:
        text += f"; Brier score {calibration.brier:.4f}"
    if calibration.recalibration is not None:
        text += (
            ". The score of a predicted entity also follows from its label, and from whether "
            "training held its form and words"
        )
    if calibration.candidate_recall is None:
        return f"{text}."
    return (
        f"{text}.\n\nCandidates are predicted entities, and spans that lost with an entity "
        f"probability of {calibration.near_miss_floor:g} or more: "
        f"at most {calibration.max_near_misses} "
        "for each sentence, none over an entity of confidence "
        f"{calibration.certain_confidence:g} or more. "
        f"So {calibration.candidate_recall:.4f} of the dev entities are among them with the "
        f"right boundaries, at {calibration.extra_share:.3f} "
        "extra candidates for each predicted entity."
    )
