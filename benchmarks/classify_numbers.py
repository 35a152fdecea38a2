"""What `benchmarks.classify` measured: do the ways agree, how fast are they, and the table."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.classify_work import Pass, Probs
from linkner_ray.errors import ContractError
from linkner_ray.reporting.tables import markdown_table

Numbers = dict[str, object]

WAYS = ("raw_vllm", "stage", "ray_data_llm")
"""What can be timed."""


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


def parity_numbers(measured: Mapping[str, Measured], *, tie: float) -> Numbers:
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


def speeds(measured: Mapping[str, Measured]) -> Numbers:
    """Requests per second and CPU time of every way, and their ratios."""
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
            numbers["engine_busy_share"] = statistics.median(busy)
    numbers |= _ratios(measured)
    return numbers


def _ratios(measured: Mapping[str, Measured]) -> Numbers:
    """The stage's questions per second as a multiple of another's, median over rounds."""
    stage = measured.get("stage")
    numbers: Numbers = {}
    for name in ("raw_vllm", "ray_data_llm"):
        other = measured.get(name)
        ratio = None
        if stage and other:
            turns = range(len(stage.rounds))
            ratio = statistics.median(stage.rate(turn=n) / other.rate(turn=n) for n in turns)
        numbers[f"ratio_stage_to_{name}"] = ratio
    return numbers


def report(numbers: Mapping[str, Any]) -> str:
    """The numbers of one model as text."""

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
