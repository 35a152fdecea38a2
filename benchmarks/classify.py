"""How much of raw vLLM's speed does the classify stage keep, and what do others reach?

    python -m benchmarks.classify --requests 400 --json numbers.json

The same questions go through `vllm.LLM.generate`, our stage, `ray.data.llm` and one-at-a-time
`generate` of transformers, each in a process of its own and one after the other, in an order that
turns from round to round. Every pass begins with an empty prefix cache. Answers are compared before
a figure is printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.classify_ways import Pass, Probs, Work, read_result
from benchmarks.measure import load_average, markdown_table, write_json
from benchmarks.questions import (
    SIZES,
    Questions,
    load_documents,
    make_questions,
    save_random_llm,
    shared_length,
)
from linkner_ray.config import LlmConfig
from linkner_ray.errors import ContractError, StartupError

Numbers = dict[str, object]

WAYS = (
    "raw_vllm",
    "raw_vllm_processes",
    "stage",
    "raw_vllm_uncached",
    "stage_uncached",
    "ray_data_llm",
    "transformers",
)
"""What can be timed; `_uncached` is without prefix caching."""

DEFAULT_WAYS = tuple(way for way in WAYS if way != "ray_data_llm")
"""Ray 2.60's engine step gets lists of token ids back from Arrow as arrays and refuses them, so
that way is left out unless asked for."""

SHORT = ("raw_vllm_uncached", "stage_uncached", "transformers")
"""Slow ways, which are given the first `--short-requests` questions only."""

TIE = {"float32": 1e-3, "bfloat16": 0.05}
"""Gap between the probabilities of two labels below which the order of sums decides."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Passes of one way in all rounds.

    Attributes:
        rounds: Passes of each round.
        num_requests: Questions in a pass.
        num_tokens: Their tokens.
        probs: Answers of the last pass.
    """

    rounds: tuple[tuple[Pass, ...], ...]
    num_requests: int
    num_tokens: int
    probs: Probs

    @property
    def passes(self) -> list[Pass]:
        """Of all rounds."""
        return [one for passes in self.rounds for one in passes]

    @property
    def wall(self) -> float:
        """Median seconds of a pass."""
        return statistics.median(one.wall for one in self.passes)

    def rate(self, *, turn: int) -> float:
        """Questions per second in the median pass of a round."""
        return self.num_requests / statistics.median(one.wall for one in self.rounds[turn])


@dataclass(frozen=True, slots=True)
class Parity:
    """How well two ways agree on the questions both were given.

    Attributes:
        num_compared: Questions.
        num_ties: Of these, labels that differ where their probabilities do not, beyond rounding.
        num_different: Labels that differ otherwise.
        max_difference: Largest difference of a probability.
    """

    num_compared: int
    num_ties: int
    num_different: int
    max_difference: float


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", help="folder of a model; default: a random one of --size")
    parser.add_argument("--size", choices=SIZES, default="big", help="of the random model")
    parser.add_argument("--data", help="corpus whose gold spans are asked; default: demo pages")
    parser.add_argument("--label-set", help="of the corpus; default: conll03")
    parser.add_argument("--requests", type=int, default=400, help="distinct questions, about")
    parser.add_argument("--short-requests", type=int, default=48, help="for the slow ways")
    parser.add_argument("--rounds", type=int, default=1, help="each starts every engine anew")
    parser.add_argument("--passes", type=int, default=3, help="timed passes in a round")
    parser.add_argument("--ways", type=_ways, default=DEFAULT_WAYS, help="comma-separated")
    parser.add_argument("--dtype", choices=TIE, default="float32")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the model")
    parser.add_argument("--max-model-len", type=int, help="default: what the model can read")
    parser.add_argument("--compile", action="store_true", help="let vLLM compile the model")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        numbers = run(options, Path(folder))
    print(_report(numbers))
    if options.json:
        write_json(options.json, numbers)
    return numbers


def _ways(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in WAYS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(WAYS)}")
    return names


def run(options: argparse.Namespace, folder: Path) -> Numbers:
    """Make model and questions, time every way, compare the answers.

    Raises:
        ContractError: If two ways give different labels to a question.
        StartupError: If a way ends without a result.
    """
    from transformers import AutoTokenizer

    numbers: Numbers = {"load_average_before": load_average()}
    model = options.llm
    if model is None:
        model = str(folder / "llm")
        numbers["parameters"] = save_random_llm(
            Path(model), SIZES[options.size], short_fixed_part=options.size == "small"
        )
    documents, label_set = load_documents(options.data, options.label_set)
    questions = make_questions(
        documents, label_set, AutoTokenizer.from_pretrained(model), count=options.requests
    )
    numbers |= {
        "model": options.llm or f"random, {options.size}",
        "requests": len(questions.prompts),
        "prompt_tokens": questions.num_tokens,
        "shared_tokens": shared_length(questions.prompts),
        "rounds": options.rounds,
        "passes": options.passes,
        "threads": options.threads,
        "dtype": options.dtype,
    }
    config = LlmConfig(
        model=model,
        dtype=options.dtype,
        enforce_eager=not options.compile,
        max_model_len=options.max_model_len,
        kv_cache_bytes=512 * 2**20,
        num_threads=options.threads,
    )
    measured = _time_all(options, folder, questions, config)
    numbers |= _parity_numbers(measured, tie=TIE[options.dtype])
    numbers |= _speeds(measured)
    numbers["load_average_after"] = load_average()
    return numbers


def _time_all(
    options: argparse.Namespace, folder: Path, questions: Questions, config: LlmConfig
) -> dict[str, Measured]:
    few = questions.first(options.short_requests)
    uncached = config.model_copy(update={"prefix_caching": False})
    found: dict[str, list[tuple[list[Pass], Probs]]] = {name: [] for name in options.ways}
    for turn in range(options.rounds):
        place = turn % len(options.ways)
        for way in options.ways[place:] + options.ways[:place]:
            asked = few if way in SHORT else questions
            work = Work(
                config=uncached if way.endswith("_uncached") else config,
                label_set=asked.label_set,
                documents=asked.documents,
                prompts=[list(prompt) for prompt in asked.prompts],
                symbol_ids=list(asked.symbol_ids),
                passes=options.passes,
            )
            found[way].append(in_own_process(way.removesuffix("_uncached"), work, folder))
    measured = {}
    for way, rounds in found.items():
        asked = few if way in SHORT else questions
        measured[way] = Measured(
            tuple(tuple(passes) for passes, _ in rounds),
            num_requests=len(asked.prompts),
            num_tokens=asked.num_tokens,
            probs=rounds[-1][1],
        )
    return measured


def in_own_process(way: str, work: Work, folder: Path) -> tuple[list[Pass], Probs]:
    """Answer questions in a fresh process.

    Raises:
        StartupError: If it fails; what it wrote is part of the message.
    """
    work.save(folder)
    done = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "benchmarks.classify_ways", way, str(folder)],
        cwd=Path(__file__).parent.parent,
        # Before torch is loaded: an engine inside the process would take every core otherwise.
        env={**os.environ, "OMP_NUM_THREADS": str(work.config.num_threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StartupError(f"{way} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return read_result(folder)


def compare(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], tie: float) -> Parity:
    """Compare the answers to the questions that both lists begin with.

    Args:
        one: Probability of each class for each question.
        other: The same from another way.
        tie: Gap below which a different label is no difference.
    """
    num = min(len(one), len(other))
    left, right = np.asarray(one[:num]), np.asarray(other[:num])  # (questions, classes)
    best, other_best = left.argmax(axis=1), right.argmax(axis=1)
    rows = np.arange(num)
    gap = np.maximum(
        left[rows, best] - left[rows, other_best], right[rows, other_best] - right[rows, best]
    )
    differs = best != other_best
    return Parity(
        num_compared=num,
        num_ties=int((differs & (gap < tie)).sum()),
        num_different=int((differs & (gap >= tie)).sum()),
        max_difference=float(np.abs(left - right).max(initial=0.0)),
    )


def _parity_numbers(measured: Mapping[str, Measured], *, tie: float) -> Numbers:
    """Compare every way with the first one timed."""
    reference = next(iter(measured))
    numbers: Numbers = {}
    for way, one in measured.items():
        found = compare(measured[reference].probs, one.probs, tie)
        if found.num_different:
            raise ContractError(
                f"{reference} and {way} give different labels to {found.num_different} of "
                f"{found.num_compared} questions (largest difference of a probability "
                f"{found.max_difference:.2g}); nothing is reported before they agree"
            )
        numbers[f"ties_{way}"] = found.num_ties
        numbers[f"max_probability_difference_{way}"] = found.max_difference
    return numbers


def _speeds(measured: Mapping[str, Measured]) -> Numbers:
    numbers: Numbers = {}
    for way, one in measured.items():
        passes = one.passes
        numbers[f"requests_{way}"] = one.num_requests
        numbers[f"requests_per_s_{way}"] = one.num_requests / one.wall
        numbers[f"best_requests_per_s_{way}"] = one.num_requests / min(p.wall for p in passes)
        numbers[f"prompt_tokens_per_s_{way}"] = one.num_tokens / one.wall
        for kind in ("own_cpu", "engine_cpu"):
            spent = [getattr(p, kind) for p in passes if getattr(p, kind) is not None]
            milliseconds = 1e3 * statistics.median(spent) / one.num_requests if spent else None
            numbers[f"{kind}_ms_per_request_{way}"] = milliseconds
        busy = [p.busy / p.wall for p in passes if p.busy is not None]
        if busy:
            suffix = way.removeprefix("stage")
            numbers[f"engine_busy_share{suffix}"] = statistics.median(busy)
    numbers |= _ratios(measured)
    return numbers


def _ratios(measured: Mapping[str, Measured]) -> Numbers:
    """The stage's questions per second as a multiple of the others', median over rounds."""

    def ratio(stage: str, *others: str) -> float | None:
        known = [measured[other] for other in others if other in measured]
        if stage not in measured or not known:
            return None
        turns = range(len(measured[stage].rounds))
        return statistics.median(
            measured[stage].rate(turn=turn) / max(other.rate(turn=turn) for other in known)
            for turn in turns
        )

    return {
        "ratio_stage_to_raw_vllm": ratio("stage", "raw_vllm", "raw_vllm_processes"),
        "ratio_stage_to_raw_vllm_uncached": ratio("stage_uncached", "raw_vllm_uncached"),
        "ratio_stage_to_ray_data_llm": ratio("stage", "ray_data_llm"),
        "ratio_stage_to_transformers": ratio("stage", "transformers"),
        "ratio_stage_to_stage_uncached": ratio("stage", "stage_uncached"),
    }


def _report(numbers: Mapping[str, Any]) -> str:
    def cell(key: str, form: str) -> str:
        value = numbers.get(key)
        return "-" if value is None else format(value, form)

    rows = [
        {
            "way": way.replace("_", " "),
            "requests": cell(f"requests_{way}", "d"),
            "requests/s": cell(f"requests_per_s_{way}", ".1f"),
            "best": cell(f"best_requests_per_s_{way}", ".1f"),
            "prompt tokens/s": cell(f"prompt_tokens_per_s_{way}", ",.0f"),
            "own CPU ms": cell(f"own_cpu_ms_per_request_{way}", ".2f"),
            "engine CPU ms": cell(f"engine_cpu_ms_per_request_{way}", ".2f"),
            "ties": cell(f"ties_{way}", "d"),
            "max difference": cell(f"max_probability_difference_{way}", ".1e"),
        }
        for way in WAYS
        if f"requests_{way}" in numbers
    ]
    lines = [
        f"{numbers['model']}: {numbers['requests']} requests, {numbers['prompt_tokens']:,} prompt "
        f"tokens, the first {numbers['shared_tokens']} of each the same, {numbers['threads']} "
        f"threads, {numbers['dtype']}, load {numbers['load_average_before']:.1f} to "
        f"{numbers['load_average_after']:.1f}",
        "",
        markdown_table(rows),
        "",
    ]
    lines += [
        f"{key:<40} {value:.4g}"
        for key, value in numbers.items()
        if key.startswith(("ratio_", "engine_busy_share")) and value is not None
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
