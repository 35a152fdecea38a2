"""What does a training step cost beside forward and backward of the bare encoder?

    python -m benchmarks.train --data train.json --json numbers.json

Same batches, dtype and process. A step is all that training does for a batch of sentences:
features, gold, forward, loss, backward, clipping, optimizer. The bare step is the encoder's forward
and backward over padded subwords that are made beforehand.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from benchmarks.measure import (
    interleaved,
    load_average,
    paired_ratio,
    peak_memory_mib,
    write_json,
)
from benchmarks.workload import Workload, add_arguments, has_bfloat16, load_workload
from linkner_ray.config import TrainingConfig
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.spanner.fitting import (
    Example,
    length_grouped_batches,
    make_optimizer,
    span_loss,
    training_batch,
)
from linkner_ray.spanner.model import SpanNER

Numbers = dict[str, object]
DTYPES = ("float32", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, sentences=128, rounds=7)
    parser.add_argument("--batch-size", type=int, default=TrainingConfig().batch_size)
    options = parser.parse_args(arguments)
    work = load_workload(options)
    numbers = run(work, batch_size=options.batch_size, rounds=options.rounds)
    numbers["threads"] = options.threads
    print(_report(work, numbers))
    if options.json:
        write_json(options.json, numbers)
    return numbers


def run(work: Workload, *, batch_size: int, rounds: int) -> Numbers:
    """Time a pass over all batches, with and without what is around the encoder.

    bfloat16 is autocast, as training uses it, and left out where the processor lacks it.
    """
    batches = _batches(work, batch_size)
    numbers: Numbers = {
        "sentences": len(work.sentences),
        "words": work.num_words,
        "batch_size": batch_size,
        "rounds": rounds,
        "load_average_before": load_average(),
    }
    ways: dict[str, Callable[[], object]] = {}
    for dtype in DTYPES if has_bfloat16() else DTYPES[:1]:
        ways[f"bare_step_{dtype}"] = bare_steps(work.model, batches, dtype=dtype)
        ways[f"step_{dtype}"] = training_steps(work.model, batches, dtype=dtype)
    work.model.train()
    peaks = {}
    for name, way in ways.items():
        way()
        peaks[name] = peak_memory_mib(way)
    timings = interleaved(ways, rounds=rounds)
    for dtype in DTYPES:
        bare, step = (timings.get(f"{kind}_{dtype}") for kind in ("bare_step", "step"))
        ratio = paired_ratio(step, bare) if bare and step else None
        numbers[f"ratio_step_to_bare_step_{dtype}"] = ratio
        for kind, found in (("bare_step", bare), ("step", step)):
            name = f"{kind}_{dtype}"
            numbers[f"words_per_s_{name}"] = work.num_words / found.median if found else None
            numbers[f"best_words_per_s_{name}"] = work.num_words / found.best if found else None
            numbers[f"peak_memory_mib_{name}"] = peaks.get(name)
    numbers["ratio_step_to_bare_step"] = numbers["ratio_step_to_bare_step_float32"]
    numbers["load_average_after"] = load_average()
    return numbers


def bare_steps(
    model: SpanNER, batches: Sequence[Sequence[Example]], *, dtype: str
) -> Callable[[], None]:
    """Forward and backward of the encoder alone over batches that are made beforehand."""
    inputs = []
    for examples in batches:
        batch, _ = training_batch(model, examples)
        inputs.append((batch.input_ids, batch.attention_mask))

    def steps() -> None:
        for ids, mask in inputs:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            model.encoder.zero_grad()
            states.float().square().mean().backward()

    return steps


def training_steps(
    model: SpanNER, batches: Sequence[Sequence[Example]], *, dtype: str
) -> Callable[[], None]:
    """All that training does, at a learning rate that leaves the weights where they are."""
    config = TrainingConfig(loss=model.loss)
    optimizer = make_optimizer(model, config)
    for group in optimizer.param_groups:
        group["lr"] = 0.0

    def steps() -> None:
        for examples in batches:
            batch, gold = training_batch(model, examples)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                logits = model(batch)
            loss = span_loss(logits, gold, batch.span_mask, config=config, epoch=1.0)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()

    return steps


def _batches(work: Workload, batch_size: int) -> list[list[Example]]:
    """The sentences as training batches them; gold the model has no class for is left out."""
    classes = {name: index for index, name in enumerate(work.model.label_set.classes)}
    examples = [
        Example(
            tokens=sentence.tokens,
            spans=[
                (span.start_token, span.end_token, classes[span.label])
                for span in sentence.spans
                if span.label in classes
            ],
        )
        for sentence in work.sentences
    ]
    lengths = [len(example.tokens) for example in examples]
    order = length_grouped_batches(lengths, batch_size, generator=np.random.default_rng(0))
    return [[examples[index] for index in indices] for indices in order]


def _report(work: Workload, numbers: Mapping[str, object]) -> str:
    rows = []
    for dtype in DTYPES:
        if numbers[f"ratio_step_to_bare_step_{dtype}"] is None:
            continue
        for kind in ("bare_step", "step"):
            name = f"{kind}_{dtype}"
            peak = numbers[f"peak_memory_mib_{name}"]
            rows.append(
                {
                    "way": name.replace("_", " "),
                    "words/s": f"{numbers[f'words_per_s_{name}']:,.0f}",
                    "best": f"{numbers[f'best_words_per_s_{name}']:,.0f}",
                    "peak MiB": "-" if peak is None else f"{peak:,.0f}",
                }
            )
    ratios = [
        f"{key} {value:.3f}"
        for key, value in numbers.items()
        if key.startswith("ratio_step_to_bare_step_") and value is not None
    ]
    head = (
        f"{work.name}: {numbers['sentences']} sentences in batches of {numbers['batch_size']}, "
        f"{numbers['threads']} threads, load {numbers['load_average_before']:.1f} to "
        f"{numbers['load_average_after']:.1f}"
    )
    return "\n".join([head, "", markdown_table(rows), "", *ratios])


if __name__ == "__main__":
    main()
