"""What every way of `benchmarks.classify` is given, how it is timed, and what it gives back."""

import json
import os
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

    def save(self, folder: Path) -> None:
        """Write the two files of a folder."""
        content = {
            "config": self.config.model_dump(mode="json"),
            "label_set": self.label_set.model_dump(mode="json"),
            "prompts": self.prompts,
            "symbol_ids": self.symbol_ids,
            "passes": self.passes,
        }
        (folder / "work.json").write_text(json.dumps(content), encoding="utf-8")
        with pa.ipc.new_file(folder / "documents.arrow", self.documents.schema) as writer:
            writer.write_table(self.documents)

    @classmethod
    def load(cls, folder: Path) -> "Work":
        """Read the two files of a folder."""
        content = json.loads((folder / "work.json").read_text(encoding="utf-8"))
        with pa.ipc.open_file(folder / "documents.arrow") as reader:
            documents = reader.read_all()
        return cls(
            config=LlmConfig.model_validate(content.pop("config")),
            label_set=LabelSet.model_validate(content.pop("label_set")),
            documents=documents,
            **content,
        )


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


def write_result(folder: Path, passes: Sequence[Pass], probs: Probs) -> None:
    """Write what came of a way."""
    content = {
        "passes": [[one.wall, one.own_cpu, one.engine_cpu, one.busy] for one in passes],
        "probs": probs,
    }
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")


def read_result(folder: Path) -> tuple[list[Pass], Probs]:
    """Read what `write_result` has written."""
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return [Pass(*one) for one in content["passes"]], content["probs"]


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
