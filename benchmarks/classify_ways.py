"""One way of getting answers, timed in a process of its own; `benchmarks.classify` starts it.

    python -m benchmarks.classify_ways stage FOLDER

An engine cannot share a process with another, nor two cores. What to do is in `FOLDER/work.json`
and `FOLDER/documents.arrow`; what came of it is written to `FOLDER/result.json`.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from linkner_ray.config import LlmConfig
from linkner_ray.errors import StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.protocol import Backend
from linkner_ray.llm.backends.vllm_engine import VllmBackend, engine_arguments
from linkner_ray.stages.classify_spans import ClassifySpans

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine

RAY_BATCH_SIZE = 64
"""Rows in a batch of Ray's processor, the size its documentation recommends."""


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


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer the questions of a folder in one way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    passes, probs = WAYS[options.way](Work.load(options.folder))
    content = {
        "passes": [[one.wall, one.own_cpu, one.engine_cpu, one.busy] for one in passes],
        "probs": probs,
    }
    (options.folder / "result.json").write_text(json.dumps(content), encoding="utf-8")


def read_result(folder: Path) -> tuple[list[Pass], Probs]:
    """Read what `main` has written."""
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return [Pass(*one) for one in content["passes"]], content["probs"]


def raw_vllm(work: Work) -> tuple[list[Pass], Probs]:
    """`vllm.LLM.generate` on token ids, the engine inside the process that asks."""
    return _time_raw(work, processes=False)


def raw_vllm_processes(work: Work) -> tuple[list[Pass], Probs]:
    """`vllm.LLM.generate` as it comes: engine and worker in processes of their own."""
    return _time_raw(work, processes=True)


def _time_raw(work: Work, *, processes: bool) -> tuple[list[Pass], Probs]:
    settings = _engine_settings(work)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(processes))
    from vllm import LLM, SamplingParams
    from vllm.inputs import tokens_input

    engine = LLM(**settings)
    sampling = SamplingParams(**_sampling(work.symbol_ids))
    prompts = [tokens_input(prompt) for prompt in work.prompts]

    def ask() -> list[Any]:
        return engine.generate(prompts, sampling, use_tqdm=False)

    engine.generate(prompts[:1], sampling, use_tqdm=False)
    passes = []
    for _ in range(work.passes):
        engine.reset_prefix_cache()
        one, outputs = timed(ask)
        passes.append(one)
    return passes, [_in_order(work, output.outputs[0].logprobs[0]) for output in outputs]


def stage(work: Work) -> tuple[list[Pass], Probs]:
    """`ClassifySpans` with an engine of ours: a table of documents in, a table of answers out."""
    backend = WatchedBackend(work.config, work.label_set)
    try:
        return time_stage(work, backend, prepare=backend.forget, busy=backend.take_busy)
    finally:
        backend.close()


def time_stage(
    work: Work,
    backend: Backend,
    *,
    prepare: Callable[[], object],
    busy: Callable[[], float | None] = lambda: None,
) -> tuple[list[Pass], Probs]:
    """Time `ClassifySpans` with any backend.

    Args:
        work: Documents and how often.
        backend: Who answers.
        prepare: Run before each pass, untimed.
        busy: Gives the seconds since the last call in which the backend had work.
    """
    classify = ClassifySpans(backend, work.label_set, config=work.config)
    passes = []
    for _ in range(work.passes):
        prepare()
        busy()
        one, table = timed(lambda: classify(work.documents))
        one.busy = busy()
        passes.append(one)
    answers = {a["key"]: a for row in table["answers"].to_pylist() for a in row if a is not None}
    failed = sum(answer["probs"] is None for answer in answers.values())
    if failed:
        raise StartupError(f"{failed} of {len(answers)} questions failed: {backend.describe()}")
    # answers give non-entity first, symbols last
    return passes, [[*a["probs"][1:], a["probs"][0]] for a in answers.values()]


class WatchedBackend(VllmBackend):
    """Notes how long its engine has at least one request under way."""

    _under_way = 0
    _since = 0.0
    _busy = 0.0

    async def _generate(self, engine: "AsyncLLMEngine", prompt: list[int]) -> Any:  # noqa: ANN401
        if not self._under_way:
            self._since = time.perf_counter()
        self._under_way += 1
        try:
            return await super()._generate(engine, prompt)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._busy += time.perf_counter() - self._since

    def take_busy(self) -> float:
        """Seconds since the last call in which there was a request; none is under way now."""
        busy, self._busy = self._busy, 0.0
        return busy

    def forget(self) -> None:
        """Empty the engine's prefix cache, or a second pass would find whole prompts in it."""
        self._loop.run(self._engine.reset_prefix_cache())


def ray_data_llm(work: Work) -> tuple[list[Pass], Probs]:
    """`ray.data.llm`'s processor on the same token ids, a row a prompt.

    Its engine starts inside the dataset, so the time is taken from the rows: from the start of the
    first request to the moment the last row leaves the last step. Starting actors, reading rows
    and collecting them is not counted.
    """
    settings = _engine_settings(work)
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    settings.pop("model")
    config = vLLMEngineProcessorConfig(
        model_source=work.config.model,
        engine_kwargs=settings,
        batch_size=RAY_BATCH_SIZE,
        concurrency=1,
        max_pending_requests=work.config.max_in_flight,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        log_engine_metrics=False,
        placement_group_config={"bundles": [{"CPU": 0.5}]},
        runtime_env={"env_vars": _engine_environment()},
    )
    sampling = _sampling(work.symbol_ids)
    processor = build_processor(
        config,
        preprocess=lambda row: {
            "number": row["number"], "tokenized_prompt": row["prompt"], "sampling_params": sampling
        },
        postprocess=lambda row: {
            "number": row["number"],
            "logprobs": json.dumps({k: v["logprob"] for k, v in row["logprobs"][0].items()}),
            "began": time.time() - row["time_taken_llm"],
            "ended": time.time(),
        },
        preprocess_map_kwargs={"num_cpus": 0.25},
        postprocess_map_kwargs={"num_cpus": 0.25},
    )  # fmt: skip
    rows = [{"number": n, "prompt": prompt} for n, prompt in enumerate(work.prompts)]
    try:
        found = processor(ray.data.from_items(rows)).take_all()
    finally:
        ray.shutdown()
    found.sort(key=lambda row: row["number"])
    wall = max(row["ended"] for row in found) - min(row["began"] for row in found)
    logprobs = [{int(k): v for k, v in json.loads(row["logprobs"]).items()} for row in found]
    return [Pass(wall)], [_in_order(work, one) for one in logprobs]


def transformers(work: Work) -> tuple[list[Pass], Probs]:
    """`generate` of Hugging Face transformers, one prompt at a time, the same tokens allowed."""
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(work.config.num_threads)
    dtype = None if work.config.dtype == "auto" else getattr(torch, work.config.dtype)
    model = AutoModelForCausalLM.from_pretrained(work.config.model, dtype=dtype).eval()

    def ask(prompt: Sequence[int]) -> list[float]:
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
            prefix_allowed_tokens_fn=lambda *_: work.symbol_ids,
        )
        return output.logits[0][0, work.symbol_ids].float().softmax(dim=0).tolist()

    ask(work.prompts[0])
    passes = []
    for _ in range(work.passes):
        one, probs = timed(lambda: [ask(prompt) for prompt in work.prompts])
        passes.append(one)
    return passes, probs


WAYS: Mapping[str, Callable[[Work], tuple[list[Pass], Probs]]] = {
    "raw_vllm": raw_vllm,
    "raw_vllm_processes": raw_vllm_processes,
    "stage": stage,
    "ray_data_llm": ray_data_llm,
    "transformers": transformers,
}


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


def _engine_settings(work: Work) -> dict[str, Any]:
    """Arguments of the stage's engine, for others to start theirs with."""
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    return engine_arguments(work.config, len(work.symbol_ids))


def _engine_environment() -> dict[str, str]:
    """What `_engine_settings` has set, for an engine that another process starts."""
    names = ("OMP_NUM_THREADS", "TORCHDYNAMO_DISABLE", "HF_HUB_OFFLINE")
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("VLLM_") or name in names
    }


def _sampling(symbol_ids: Sequence[int]) -> dict[str, Any]:
    """How the stage samples, as others are told to."""
    return {
        "temperature": 0.0,
        "max_tokens": 1,
        "allowed_token_ids": list(symbol_ids),
        "logprobs": len(symbol_ids),
        "detokenize": False,
    }


def _in_order(work: Work, logprobs: Mapping[int, Any]) -> list[float]:
    """Probability of each symbol, from log-probabilities by token."""
    found = [getattr(logprobs[token], "logprob", logprobs[token]) for token in work.symbol_ids]
    return torch.tensor(found).exp().tolist()


if __name__ == "__main__":
    main()
