"""How much of the bare encoder's speed does the recognise stage keep?

    python -m benchmarks.recognize --data dev.json --checkpoint models/conll03 --json numbers.json

Same words, machine, encoder and process; answers are compared before anything is timed.
"""

import argparse
import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.measure import (
    Timings,
    interleaved,
    load_average,
    paired_ratio,
    peak_memory_mib,
    write_json,
)
from benchmarks.workload import Workload, add_arguments, has_bfloat16, load_workload
from linkner_ray.config import RecognizeConfig
from linkner_ray.corpora.scores import score_entities
from linkner_ray.corpora.tables import GoldEntity, corpus_documents
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.spanner.features import Batch
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.windows import batches_under_budget
from linkner_ray.stages.recognize_spans import RecognizeSpans

F1_TOLERANCE = 0.001
"""Largest difference of F1 between bfloat16 and float32: 0.1 points."""

Numbers = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How near the bfloat16 stage comes to the float32 one.

    Attributes:
        same_label_share: Share of float32 candidates that bfloat16 finds with the same label.
        max_score_difference: Largest difference of a probability over the candidates both find.
        f1: Of predicted entities, float32 and bfloat16; None without gold.
    """

    same_label_share: float
    max_score_difference: float
    f1: tuple[float, float] | None

    @property
    def holds(self) -> bool:
        """Whether F1 stays within `F1_TOLERANCE`; without gold there is nothing to break."""
        return self.f1 is None or abs(self.f1[0] - self.f1[1]) <= F1_TOLERANCE


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, sentences=400, rounds=7)
    parser.add_argument(
        "--batch-tokens", type=int, default=RecognizeConfig().batch_tokens, help="padded subwords"
    )
    options = parser.parse_args(arguments)
    work = load_workload(options)
    numbers = run(work, batch_tokens=options.batch_tokens, rounds=options.rounds)
    numbers["threads"] = options.threads
    print(_report(work, numbers))
    if options.json:
        write_json(options.json, numbers)
    return numbers


def run(work: Workload, *, batch_tokens: int, rounds: int) -> Numbers:
    """Compare the answers, then time all ways side by side."""
    numbers: Numbers = {
        "sentences": len(work.sentences),
        "words": work.num_words,
        "rounds": rounds,
        "batch_tokens": batch_tokens,
        "load_average_before": load_average(),
    }
    config = RecognizeConfig(batch_tokens=batch_tokens, device="cpu", dtype="float32")
    documents, gold = corpus_documents(work.sentences, ids_prefix="benchmark")
    sentences = [sentence.tokens for sentence in work.sentences]
    stage = RecognizeSpans(config, work.model)
    ways: dict[str, Callable[[], object]] = {
        "bare_encoder": bare_encoder(work.model, sentences, batch_tokens),
        "stage": partial(stage, documents),
    }
    if has_bfloat16():
        half = RecognizeSpans(
            config.model_copy(update={"dtype": "bfloat16"}), copy.deepcopy(work.model)
        )
        found = agreement(stage(documents), half(documents), gold if work.has_gold else None)
        numbers |= _agreement_numbers(found)
        if found.holds:
            ways["stage_bfloat16"] = partial(half, documents)
    numbers["share_padding"] = _padding(work, batch_tokens)
    for name in ("bare_encoder", "stage"):
        ways[name]()
        numbers[f"peak_memory_mib_{name}"] = peak_memory_mib(ways[name])
    timings = interleaved(ways, rounds=rounds)
    numbers |= _speeds(timings, work.num_words)
    numbers |= _shares(stage, documents, rounds=rounds)
    numbers["load_average_after"] = load_average()
    return numbers


def batches_by_length(
    model: SpanNER, sentences: Sequence[Sequence[str]], batch_tokens: int
) -> list[Batch]:
    """The batches that the recognise stage makes of the sentences."""
    windows = model.featurizer.windows(sentences)
    lengths = [model.featurizer.length(window) for window in windows]
    return [
        model.featurizer.collate([windows[index] for index in indices])
        for indices in batches_under_budget(lengths, batch_tokens)
    ]


def bare_encoder(
    model: SpanNER, sentences: Sequence[Sequence[str]], batch_tokens: int
) -> Callable[[], None]:
    """The encoder's forward pass over batches that are made beforehand, and nothing else."""
    encoder = model.encoder
    batches = [
        (batch.input_ids, batch.attention_mask)
        for batch in batches_by_length(model, sentences, batch_tokens)
    ]

    def forward() -> None:
        with torch.inference_mode():
            for ids, mask in batches:
                encoder(input_ids=ids, attention_mask=mask)

    return forward


def agreement(
    exact: pa.Table, half: pa.Table, gold: Sequence[Sequence[GoldEntity]] | None
) -> Agreement:
    """Compare two tables with the column `candidates`."""
    num_exact, same, difference = 0, 0, 0.0
    predicted: tuple[list[set[GoldEntity]], list[set[GoldEntity]]] = ([], [])
    rows = (table["candidates"].to_pylist() for table in (exact, half))
    for pair in zip(*rows, strict=True):
        left, right = ({(one["start"], one["end"]): one for one in row} for row in pair)
        num_exact += len(left)
        for place in left.keys() & right.keys():
            a, b = left[place], right[place]
            same += a["label"] == b["label"]
            scores = zip(a["label_probs"], b["label_probs"], strict=True)
            difference = max(difference, *(abs(x - y) for x, y in scores))
        for entities, row in zip(predicted, pair, strict=True):
            entities.append(
                {
                    GoldEntity(one["start"], one["end"], one["label"])
                    for one in row
                    if one["kind"] == "predicted"
                }
            )
    scored = [score_entities(gold, entities).micro.f1 for entities in predicted] if gold else None
    return Agreement(
        same_label_share=same / max(1, num_exact),
        max_score_difference=difference,
        f1=(scored[0], scored[1]) if scored else None,
    )


def _agreement_numbers(agreement: Agreement) -> Numbers:
    f1 = agreement.f1 or (None, None)
    return {
        "bfloat16_same_label_share": agreement.same_label_share,
        "bfloat16_max_score_difference": agreement.max_score_difference,
        "f1_float32": f1[0],
        "f1_bfloat16": f1[1],
        "bfloat16_holds": agreement.holds,
    }


def _padding(work: Workload, batch_tokens: int) -> float:
    """Share of the subwords an encoder reads that are padding: what packing could save."""
    sentences = [sentence.tokens for sentence in work.sentences]
    masks = [b.attention_mask for b in batches_by_length(work.model, sentences, batch_tokens)]
    return 1.0 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks)


WAYS = (
    "bare_encoder",
    "stage",
    "stage_bfloat16",
)


def _speeds(timings: Mapping[str, Timings], num_words: int) -> Numbers:
    numbers: Numbers = {}
    for name in WAYS:
        found = timings.get(name)
        numbers[f"words_per_s_{name}"] = num_words / found.median if found else None
        numbers[f"best_words_per_s_{name}"] = num_words / found.best if found else None
        numbers[f"cpu_us_per_word_{name}"] = 1e6 * found.median_cpu / num_words if found else None
    stage, half = timings["stage"], timings.get("stage_bfloat16")
    bare = timings["bare_encoder"]
    numbers["ratio_stage_to_bare_encoder"] = paired_ratio(bare, stage)
    numbers["ratio_stage_bfloat16_to_bare_encoder"] = paired_ratio(bare, half) if half else None
    return numbers


def _shares(stage: RecognizeSpans, documents: pa.Table, *, rounds: int) -> Numbers:
    """Where the stage's time goes; the median over rounds of each part's share.

    Decoding is what `Recognizer.candidates` does besides features and model: probabilities,
    enumeration of the spans that matter, choice. Arrow is what the stage does around it.
    """
    clock = _Clock()
    recognizer = stage.recognizer
    featurizer, model = recognizer.model.featurizer, recognizer.model
    watched = [
        (recognizer, "candidates", "candidates"),
        (featurizer, "windows", "tokenisation"),
        (featurizer, "collate", "tokenisation"),
        (model, "project", "model"),
        (model.head, "forward", "model"),
        (model.encoder, "forward", "encoder"),
    ]
    rows = []
    for owner, name, part in watched:
        setattr(owner, name, clock.timed(getattr(owner, name), part))
    try:
        for _ in range(rounds):
            clock.seconds.clear()
            clock.timed(stage, "stage")(documents)
            rows.append(dict(clock.seconds))
    finally:
        for owner, name, _ in watched:
            delattr(owner, name)
    parts = {
        "share_encoder": lambda s: s["encoder"],
        "share_head": lambda s: s["model"] - s["encoder"],
        "share_tokenisation": lambda s: s["tokenisation"],
        "share_decoding": lambda s: s["candidates"] - s["model"] - s["tokenisation"],
        "share_arrow": lambda s: s["stage"] - s["candidates"],
        "share_around_the_model": lambda s: s["stage"] - s["model"],
    }
    return {
        name: float(np.median([seconds_of(row) / row["stage"] for row in rows]))
        for name, seconds_of in parts.items()
    }


class _Clock:
    """Seconds spent in functions, by the part they belong to."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The same function; its time goes to a part."""

        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - started
                self.seconds[part] = self.seconds.get(part, 0.0) + spent

        return call


def _report(work: Workload, numbers: Mapping[str, object]) -> str:
    bare = numbers["best_words_per_s_bare_encoder"]
    rows = []
    for name in WAYS:
        speed = numbers[f"words_per_s_{name}"]
        cells = {"way": name.replace("_", " ")}
        if speed is None:
            cells |= dict.fromkeys(("words/s", "best", "CPU us a word", "best to bare"), "-")
        else:
            cells |= {
                "words/s": f"{speed:,.0f}",
                "best": f"{numbers[f'best_words_per_s_{name}']:,.0f}",
                "CPU us a word": f"{numbers[f'cpu_us_per_word_{name}']:,.0f}",
                "best to bare": f"{numbers[f'best_words_per_s_{name}'] / bare:.3f}",
            }
        rows.append(cells)
    lines = [
        f"{work.name}: {numbers['sentences']} sentences, {numbers['words']} words, "
        f"{numbers['threads']} threads, load {numbers['load_average_before']:.1f} to "
        f"{numbers['load_average_after']:.1f}",
        "",
        markdown_table(rows),
        "",
    ]
    shown = ("ratio_", "share_", "peak_", "bfloat16_", "f1_")
    for key, value in numbers.items():
        if key.startswith(shown) and value is not None:
            lines.append(
                f"{key:<40} {value:.4g}" if isinstance(value, float) else f"{key:<40} {value}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
