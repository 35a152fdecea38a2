"""What every way of `benchmarks.classify` is given, how it is timed, and what it gives back."""

import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from linkner_ray.config import LlmConfig
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.engine_start import engine_arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every way is given.

    Attributes:
        config: Of the engine.
        label_set: Labels on offer.
        documents: Questions as the stage reads them.
        prompts: The same questions as token ids.
        symbol_ids: Token id of each class as a reply: labels, then non-entity.
        passes: How often to answer all of them.
    """

    config: LlmConfig
    label_set: LabelSet
    documents: pa.Table
    prompts: list[list[int]]
    symbol_ids: list[int]
    passes: int


@dataclass(slots=True)
class Pass:
    """Cost of answering all questions once.

    Attributes:
        wall: Elapsed seconds.
        own_cpu: Processor seconds of the process that asks; None where others do the work.
        engine_cpu: Processor seconds of the processes it started.
        busy: Seconds in which the engine had at least one request; None where not watched.
    """

    wall: float
    own_cpu: float | None = None
    engine_cpu: float | None = None
    busy: float | None = None


Probs = list[list[float]]
"""Probability of each class in the order of `Work.symbol_ids`, for each question."""


def write(path: Path, value: object) -> None:
    """Hand a value to another process."""
    path.write_bytes(pickle.dumps(value))


def read(path: Path) -> Any:  # noqa: ANN401 - whatever was handed over
    """What another process of this benchmark has written."""
    return pickle.loads(path.read_bytes())  # noqa: S301 - our own


def timed(work: Callable[[], Any]) -> tuple[Pass, Any]:
    """Do something; give what it cost and what it gave."""
    own, engine = _cpu_seconds()
    started = time.perf_counter()
    outcome = work()
    wall = time.perf_counter() - started
    own_after, engine_after = _cpu_seconds()
    return Pass(wall, own_after - own, engine_after - engine), outcome


def _cpu_seconds() -> tuple[float, float]:
    """Processor seconds so far of this process, and of the living ones it started."""
    import psutil

    children = 0.0
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        children += times.user + times.system
    return time.process_time(), children


def engine_settings(work: Work) -> dict[str, Any]:
    """Arguments of the stage's engine, for others to start theirs with."""
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    return engine_arguments(work.config, len(work.symbol_ids))


def engine_environment() -> dict[str, str]:
    """What `engine_settings` has set, for an engine that another process starts."""
    names = ("OMP_NUM_THREADS", "TORCHDYNAMO_DISABLE", "HF_HUB_OFFLINE")
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("VLLM_") or name in names
    }


def sampling_settings(symbol_ids: Sequence[int]) -> dict[str, Any]:
    """How the stage samples, as others are told to."""
    return {
        "temperature": 0.0,
        "max_tokens": 1,
        "allowed_token_ids": list(symbol_ids),
        "logprobs": len(symbol_ids),
        "detokenize": False,
    }


def in_order(work: Work, logprobs: Mapping[int, Any]) -> list[float]:
    """Probability of each symbol, from log-probabilities by token."""
    found = [getattr(logprobs[token], "logprob", logprobs[token]) for token in work.symbol_ids]
    return torch.tensor(found).exp().tolist()
