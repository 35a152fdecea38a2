"""Which estimate of uncertainty finds a checkpoint's errors, and what are its candidates worth?

    python -m benchmarks.uncertainty --checkpoint models/conll03 \
      --set test=conll03/spanner.test --set oov=conll03/oov/spanner.test --json numbers.json

For each set: strict F1, reach and extra candidates, calibration of predicted entities, and for each
estimate the AUROC with which it tells wrong predicted entities (the positives) from right ones.
Nothing is chosen on these sets.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import torch

from benchmarks.measure import markdown_table, write_json
from linkner_ray.config import RecognizeConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.evaluation.benchmark_plots import plot_reliability
from linkner_ray.evaluation.candidates import CandidateFigures, judge_candidates
from linkner_ray.evaluation.scores import score_entities
from linkner_ray.spanner.model import SpanNER
from linkner_ray.stages.recognize_spans import RecognizeSpans

Numbers = dict[str, object]

ESTIMATES: dict[str, dict[str, str]] = {
    "confidence": {"uncertainty": "confidence"},
    "entropy": {"uncertainty": "entropy"},
    "mc_dropout_head": {"uncertainty": "mc_dropout", "dropout_scope": "head"},
    "mc_dropout_encoder": {"uncertainty": "mc_dropout", "dropout_scope": "encoder"},
    "evidential": {"uncertainty": "evidential"},
}


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its tables, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="folder that training wrote")
    parser.add_argument("--set", action="append", required=True, metavar="NAME=PATH", dest="sets")
    parser.add_argument(
        "--estimate", action="append", choices=ESTIMATES, help="measure this one; repeatable"
    )
    parser.add_argument("--samples", type=int, default=RecognizeConfig().dropout_samples)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--plots", type=Path, help="folder for reliability diagrams")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = SpanNER.from_pretrained(options.checkpoint)
    sets = dict(one.split("=", maxsplit=1) for one in options.sets)
    numbers: Numbers = {"checkpoint": options.checkpoint, "loss": model.loss}
    for name, path in sets.items():
        numbers |= run(
            model,
            name,
            path,
            wanted=options.estimate or list(ESTIMATES),
            samples=options.samples,
            plots=options.plots,
        )
    print(_report(numbers, list(sets)))
    if options.json:
        write_json(options.json, numbers)
    return numbers


def run(  # noqa: PLR0913 - the options of the command
    model: SpanNER,
    name: str,
    path: str,
    *,
    wanted: Sequence[str],
    samples: int,
    plots: Path | None,
) -> Numbers:
    """Figures of one set, each key beginning with its name.

    Those of candidates and calibration come with the estimate `confidence`.
    """
    corpus = read_corpus(path, label_set=model.label_set)
    documents, gold = corpus_documents(corpus.sentences, ids_prefix=name)
    triples = [[(one.start, one.end, one.label) for one in row] for row in gold]
    numbers: Numbers = {}
    for estimate, settings in estimates_of(model).items():
        if estimate not in wanted:
            continue
        config = RecognizeConfig.model_validate(
            {"device": "cpu", "dtype": "float32", "dropout_samples": samples, **settings}
        )
        started = time.perf_counter()
        candidates = RecognizeSpans(config, model)(documents)["candidates"]
        numbers[f"{name}_seconds_{estimate}"] = time.perf_counter() - started
        figures = judge_candidates(candidates, triples)
        numbers[f"{name}_auroc_{estimate}"] = figures.detection.auroc
        if estimate == "confidence":
            numbers |= _figures(name, figures, candidates, triples)
            if plots:
                plots.mkdir(parents=True, exist_ok=True)
                picture = plot_reliability(figures.bins, name=name, ece=figures.ece)
                (plots / f"reliability-{name}.png").write_bytes(picture)
    return numbers


def estimates_of(model: SpanNER) -> Mapping[str, Mapping[str, str]]:
    """The estimates a checkpoint can give: evidence needs its loss, samples need dropout."""
    return {
        name: settings
        for name, settings in ESTIMATES.items()
        if (name != "evidential" or model.loss == "evidential")
        and (settings["uncertainty"] != "mc_dropout" or model.config.dropout > 0)
    }


def _figures(
    name: str,
    figures: CandidateFigures,
    candidates: pa.ChunkedArray,
    gold: Sequence[Sequence[tuple[int, int, str]]],
) -> Numbers:
    predicted = [
        {(one["start"], one["end"], one["label"]) for one in row if one["kind"] == "predicted"}
        for row in candidates.to_pylist()
    ]
    scores = score_entities(gold, predicted).micro
    return {
        f"{name}_f1": scores.f1,
        f"{name}_precision": scores.precision,
        f"{name}_recall": scores.recall,
        f"{name}_reach": figures.reach,
        f"{name}_reach_predicted": figures.reach_predicted,
        f"{name}_extra_share": figures.extra_share,
        f"{name}_ece": figures.ece,
        f"{name}_brier": figures.brier,
        f"{name}_bins": json.dumps([list(one) for one in figures.bins]),
    }


def _report(numbers: Mapping[str, object], names: Sequence[str]) -> str:
    def shown(key: str) -> str:
        value = numbers.get(key)
        return f"{value:.4f}" if isinstance(value, float) else "-"

    columns = ("f1", "precision", "recall", "reach", "extra_share", "ece", "brier")
    quality = [{"set": name, **{c: shown(f"{name}_{c}") for c in columns}} for name in names]
    found = [e for e in ESTIMATES if any(f"{name}_auroc_{e}" in numbers for name in names)]
    detection = [{"set": name, **{e: shown(f"{name}_auroc_{e}") for e in found}} for name in names]
    return "\n".join(
        [
            f"{numbers['checkpoint']} ({numbers['loss']})",
            "",
            markdown_table(quality),
            "",
            "AUROC of uncertainty for errors among predicted entities:",
            "",
            markdown_table(detection),
        ]
    )


if __name__ == "__main__":
    main()
