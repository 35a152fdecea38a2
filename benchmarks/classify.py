"""How much of raw vLLM's speed does the classify stage keep, and what do others reach?

    python -m benchmarks.classify --sizes big,small --requests 100 --threads 2 --json numbers.json

The same questions go through `vllm.LLM.generate`, our stage and `ray.data.llm`, each in a process
of its own and one after the other, in an order that turns from round to round. Every pass begins
with an empty prefix cache. Answers are compared before a figure is printed. With a big model the
engine is the work, with a small one the overhead shows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.classify_numbers import (
    WAYS,
    Measured,
    Numbers,
    parity_numbers,
    report,
    speeds,
)
from benchmarks.classify_work import Pass, Probs, Work, read, write
from benchmarks.measure import load_average, write_json
from benchmarks.questions import (
    SIZES,
    Questions,
    load_documents,
    make_questions,
    save_random_llm,
    shared_length,
)
from linkner_ray.config import LlmConfig
from linkner_ray.errors import StartupError

TIE = {"float32": 1e-3, "bfloat16": 0.05}
"""Gap between the probabilities of two labels below which the order of sums decides."""


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", help="folder of a model; default: random ones of --sizes")
    parser.add_argument("--sizes", type=_sizes, default=("big",), help="big, small, or big,small")
    parser.add_argument("--data", help="corpus whose gold spans are asked; default: the demo's")
    parser.add_argument("--label-set", help="of the corpus; default: conll03")
    parser.add_argument("--requests", type=int, default=400, help="distinct questions, about")
    parser.add_argument("--rounds", type=int, default=1, help="each starts every engine anew")
    parser.add_argument("--passes", type=int, default=3, help="timed passes in a round")
    parser.add_argument("--ways", type=_ways, default=WAYS, help="comma-separated")
    parser.add_argument("--dtype", choices=TIE, default="float32")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the model")
    parser.add_argument("--max-model-len", type=int, help="default: what the model can read")
    parser.add_argument("--compile", action="store_true", help="let vLLM compile the model")
    parser.add_argument("--way-timeout", type=float, default=600, help="seconds for one way")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    numbers: Numbers = {}
    for size in options.sizes if options.llm is None else options.sizes[:1]:
        with tempfile.TemporaryDirectory() as folder:
            found = run(options, Path(folder), size=size)
        print(report(found), "\n", flush=True)
        several = options.llm is None and len(options.sizes) > 1
        numbers |= {f"{size}_{key}" if several else key: value for key, value in found.items()}
        if options.json:
            write_json(options.json, numbers)
    return numbers


def _ways(text: str) -> tuple[str, ...]:
    return _names(text, WAYS)


def _sizes(text: str) -> tuple[str, ...]:
    return _names(text, tuple(SIZES))


def _names(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(known)}")
    return names


def run(options: argparse.Namespace, folder: Path, *, size: str) -> Numbers:
    """Make model and questions, time every way, compare the answers.

    Args:
        options: Of the command line.
        folder: For the model and what processes hand over.
        size: Of the random model.

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
            Path(model), SIZES[size], short_fixed_part=size == "small"
        )
    documents, label_set = load_documents(options.data, options.label_set)
    questions = make_questions(
        documents, label_set, AutoTokenizer.from_pretrained(model), count=options.requests
    )
    numbers |= {
        "model": options.llm or f"random, {size}",
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
    numbers |= parity_numbers(measured, tie=TIE[options.dtype])
    numbers |= speeds(measured)
    numbers["load_average_after"] = load_average()
    return numbers


def _time_all(
    options: argparse.Namespace, folder: Path, questions: Questions, config: LlmConfig
) -> dict[str, Measured]:
    work = Work(
        config=config,
        label_set=questions.label_set,
        documents=questions.documents,
        prompts=[list(prompt) for prompt in questions.prompts],
        symbol_ids=list(questions.symbol_ids),
        passes=options.passes,
    )
    found: dict[str, list[tuple[list[Pass], Probs]]] = {name: [] for name in options.ways}
    for turn in range(options.rounds):
        place = turn % len(options.ways)
        for way in options.ways[place:] + options.ways[:place]:
            found[way].append(in_own_process(way, work, folder, timeout_s=options.way_timeout))
    return {
        way: Measured(
            tuple(tuple(passes) for passes, _ in rounds),
            num_requests=len(questions.prompts),
            num_tokens=questions.num_tokens,
            probs=rounds[-1][1],
        )
        for way, rounds in found.items()
    }


def in_own_process(
    way: str, work: Work, folder: Path, *, timeout_s: float = 600
) -> tuple[list[Pass], Probs]:
    """Answer questions in a fresh process.

    Raises:
        StartupError: If it fails or takes too long; what it wrote is part of the message.
    """
    write(folder / "work", work)
    try:
        done = _run(way, work, folder, timeout_s)
    except subprocess.TimeoutExpired as error:
        written = (error.stdout or b"").decode(errors="replace")[-4000:]
        raise StartupError(
            f"{way} took over {timeout_s:g} s (--way-timeout); it wrote:\n{written}"
        ) from error
    if done.returncode:
        raise StartupError(f"{way} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return read(folder / "result")


def _run(
    way: str, work: Work, folder: Path, timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-m", "benchmarks.classify_ways", way, str(folder)],
        cwd=Path(__file__).parent.parent,
        # Before torch is loaded: an engine inside the process would take every core otherwise.
        env={**os.environ, "OMP_NUM_THREADS": str(work.config.num_threads)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout_s,
    )


if __name__ == "__main__":
    main()
