"""How much of the bare encoder's speed does the recognise stage keep?

    python -m benchmarks.recognize --data dev.json --checkpoint models/conll03 --json numbers.json

Same words, machine, encoder and process. How near bfloat16 comes to float32 is measured when a
model is trained, see `spanner.self_check`.
"""

import argparse
import copy
import time
from collections.abc import Callable, Mapping, Sequence
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
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.spanner.features import Batch
from linkner_ray.spanner.model import SpanNER
from linkner_ray.spanner.windows import batches_under_budget
from linkner_ray.stages.recognize_spans import RecognizeSpans

Numbers = dict[str, object]


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
    """Time all ways side by side, bfloat16 where the processor computes it natively."""
    numbers: Numbers = {
        "sentences": len(work.sentences),
        "words": work.num_words,
        "rounds": rounds,
        "batch_tokens": batch_tokens,
        "load_average_before": load_average(),
    }
    config = RecognizeConfig(batch_tokens=batch_tokens, device="cpu", dtype="float32")
    documents, _ = corpus_documents(work.sentences, ids_prefix="benchmark")
    sentences = [sentence.tokens for sentence in work.sentences]
    stage = RecognizeSpans(config, work.model)
    ways: dict[str, Callable[[], object]] = {
        "bare_encoder": bare_encoder(work.model, sentences, batch_tokens),
        "stage": partial(stage, documents),
    }
    if has_bfloat16():
        half = config.model_copy(update={"dtype": "bfloat16"})
        ways["stage_bfloat16"] = partial(RecognizeSpans(half, copy.deepcopy(work.model)), documents)
    numbers["share_padding"] = _padding(work, batch_tokens)
    for name, way in ways.items():
        way()
        numbers[f"peak_memory_mib_{name}"] = peak_memory_mib(way)
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
    lines += [
        f"{key:<40} {value:.4g}"
        for key, value in numbers.items()
        if key.startswith(("ratio_", "share_", "peak_")) and value is not None
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
