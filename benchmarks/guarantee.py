"""Does a threshold with a promise keep it, on text like the set that made it and on other text?

    python -m benchmarks.guarantee --checkpoint models/conll03 --calibrate conll03/spanner.test \
      --also oov=conll03/oov/spanner.test --alpha 0.05 --delta 0.1 --json numbers.json

Again and again half of a labelled set chooses a threshold, and the promise "of the labels that stay
local at most alpha are wrong" is held against

- rest: the other half. Whether its error is above alpha depends on its own luck too, so a promise
  that is kept in 1 - delta of all cases may seem broken somewhat more often;
- whole: the set itself, where the half is drawn from it with replacement, sentence by sentence. The
  set is then all there is, its error is known, and delta is the bound;
- each set of `--also`, for which nothing was promised.

Three ways to choose: `tested`, what `linkner calibrate --alpha` writes; `tested alone`, the same
test as if entities of one sentence were independent; `plain`, the highest threshold with no more
than alpha wrong, without any test. Nothing is trained or fitted here. A set that decided the
checkpoint's calibration is no fair one to try it on.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.measure import markdown_table, write_json
from linkner_ray.config import RecognizeConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.dev_set import gold_of
from linkner_ray.errors import DataError
from linkner_ray.spanner.guarantee import guaranteed_threshold
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.predict import Recognizer
from linkner_ray.spanner.thresholds import risk_threshold

Numbers = dict[str, object]
IntArray = NDArray[np.int64]

WAYS = ("tested", "tested alone", "plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Predicted entities of a labelled set, sentence by sentence.

    Attributes:
        uncertainty: As routing compares it.
        correct: Whether boundaries and label are right.
        sentence: Of each.
        num_sentences: Those without an entity, too.
    """

    uncertainty: NDArray[np.float32]
    correct: NDArray[np.bool_]
    sentence: IntArray
    num_sentences: int

    def of(self, sentences: IntArray) -> "Predicted":
        """Those of the given sentences; one that is given twice counts as two."""
        starts, ends = (
            np.searchsorted(self.sentence, sentences, side=s) for s in ("left", "right")
        )
        rows = np.concatenate(
            [np.arange(start, end) for start, end in zip(starts, ends, strict=True)]
        )
        return Predicted(
            uncertainty=self.uncertainty[rows],
            correct=self.correct[rows],
            sentence=np.repeat(np.arange(len(sentences)), ends - starts),
            num_sentences=len(sentences),
        )

    def local(self, threshold: float) -> tuple[float, float]:
        """Share of wrong ones among those that stay local, and share of those that stay."""
        stays = self.uncertainty < np.float32(threshold)
        wrong = ~self.correct[stays]
        return float(wrong.mean()) if len(wrong) else 0.0, float(stays.mean())


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="folder that training wrote")
    parser.add_argument("--calibrate", required=True, help="labelled set whose halves promise")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--uncertainty", default="confidence", help="estimate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = SpanNER.from_pretrained(options.checkpoint)
    own = predict(model, options.calibrate, options.uncertainty)
    others = {
        name: predict(model, path, options.uncertainty)
        for name, path in (one.split("=", maxsplit=1) for one in options.also)
    }
    rows = []
    for way in WAYS:
        rows += hold(
            own,
            others,
            way=way,
            splits=options.splits,
            alpha=options.alpha,
            delta=options.delta,
            seed=options.seed,
        )
    numbers: Numbers = {
        "checkpoint": options.checkpoint,
        "calibrate": options.calibrate,
        "num_predicted": len(own.correct),
        "error": own.local(np.inf)[0],
        "splits": options.splits,
        "alpha": options.alpha,
        "delta": options.delta,
        "uncertainty": options.uncertainty,
        "rows": rows,
    }
    print(_report(numbers, rows))
    if options.json:
        write_json(options.json, numbers)
    return numbers


def predict(model: SpanNER, path: str, estimate: str) -> Predicted:
    """What a model predicts in a labelled set."""
    config = RecognizeConfig.model_validate(
        {"uncertainty": estimate, "device": "cpu", "dtype": "float32"}
    )
    sentences = read_corpus(path, label_set=model.label_set).sentences
    table = Recognizer(model, config).candidates([one.tokens for one in sentences])
    gold = [{(s.start_token, s.end_token, s.label) for s in one.spans} for one in sentences]
    spans = table.spans.take(np.flatnonzero(table.predicted))
    return Predicted(
        uncertainty=spans.uncertainty,
        correct=gold_of(spans, gold, model.label_set.classes) == spans.label,
        sentence=spans.sentence,
        num_sentences=len(sentences),
    )


def hold(  # noqa: PLR0913 - the options of the command
    own: Predicted,
    others: Mapping[str, Predicted],
    *,
    way: str,
    splits: int,
    alpha: float,
    delta: float,
    seed: int = 0,
) -> list[Numbers]:
    """Let halves promise, and count how often it is broken.

    Args:
        own: Halves of it promise.
        others: By name; nothing is promised for them.
        way: One of `WAYS`.
        splits: How often.
        alpha: Error promised.
        delta: Chance that the promise is broken.
        seed: Of the halves, which are the same for every way.

    Returns:
        A row for `rest`, one for `whole`, one for each other set.
    """
    rng = np.random.default_rng(seed)
    held: dict[str, list[tuple[float, float]]] = {name: [] for name in ("rest", "whole", *others)}
    refused = dict.fromkeys(held, 0)

    def note(half: Predicted, against: Mapping[str, Predicted]) -> None:
        threshold = choose(half, way=way, alpha=alpha, delta=delta)
        for name, judged in against.items():
            if threshold is None:
                refused[name] += 1
            else:
                held[name].append(judged.local(threshold))

    for _ in range(splits):
        order = rng.permutation(own.num_sentences)
        size = own.num_sentences // 2
        note(own.of(np.sort(order[:size])), {"rest": own.of(np.sort(order[size:])), **others})
        drawn = np.sort(rng.integers(own.num_sentences, size=size))
        note(own.of(drawn), {"whole": own})
    return [
        {
            "way": way,
            "set": name,
            "refused": refused[name] / splits,
            "broken": sum(error > alpha for error, _ in found) / splits,
            "error": float(np.mean([error for error, _ in found])) if found else None,
            "local_share": float(np.mean([share for _, share in found])) if found else None,
        }
        for name, found in held.items()
    ]


def choose(half: Predicted, *, way: str, alpha: float, delta: float) -> float | None:
    """The threshold that a way chooses; None where it promises nothing."""
    uncertainty = half.uncertainty.astype(np.float64)
    if way == "plain":
        return risk_threshold(uncertainty, half.correct, alpha)
    groups = half.sentence if way == "tested" else np.arange(len(half.correct))
    try:
        found = guaranteed_threshold(uncertainty, half.correct, groups, alpha=alpha, delta=delta)
    except DataError:
        return None
    return found.threshold


def _report(numbers: Numbers, rows: Sequence[Numbers]) -> str:
    def shown(value: object) -> str:
        return f"{value:.4f}" if isinstance(value, float) else "-"

    table = markdown_table(
        [
            {
                "way": str(row["way"]),
                "held against": str(row["set"]),
                **{
                    title: shown(row[key])
                    for title, key in (
                        ("refused", "refused"),
                        ("error above alpha", "broken"),
                        ("mean error", "error"),
                        ("stays local", "local_share"),
                    )
                },
            }
            for row in rows
        ]
    )
    head = (
        f"{numbers['calibrate']}: {numbers['num_predicted']} predicted entities, of which "
        f"{shown(numbers['error'])} are wrong; {numbers['splits']} times, alpha "
        f"{numbers['alpha']}, delta {numbers['delta']}, {numbers['uncertainty']}"
    )
    return f"{head}\n\n{table}"


if __name__ == "__main__":
    main()
