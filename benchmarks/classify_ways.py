"""One way of getting answers, timed in a process of its own; `benchmarks.classify` starts it.

    python -m benchmarks.classify_ways stage FOLDER

An engine cannot share a process with another, nor two cores. What to do is in `FOLDER/work`, and
its result is written to `FOLDER/result`.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.classify_rivals import ray_data_llm
from benchmarks.classify_work import (
    Pass,
    Probs,
    Work,
    engine_settings,
    in_order,
    read,
    sampling_settings,
    timed,
    write,
)
from linkner_ray.errors import StartupError
from linkner_ray.llm.backends.protocol import Backend
from linkner_ray.llm.backends.vllm_engine import VllmBackend
from linkner_ray.stages.classify_spans import ClassifySpans

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer the questions of a folder in one way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    write(options.folder / "result", WAYS[options.way](read(options.folder / "work")))


def raw_vllm(work: Work) -> tuple[list[Pass], Probs]:
    """`vllm.LLM.generate` on token ids, the engine inside the process that asks.

    That is quicker than as it comes, with engine and worker in processes of their own.
    """
    settings = engine_settings(work)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    from vllm import LLM, SamplingParams
    from vllm.inputs import tokens_input

    engine = LLM(**settings)
    sampling = SamplingParams(**sampling_settings(work.symbol_ids))
    prompts = [tokens_input(prompt) for prompt in work.prompts]

    def ask() -> list[Any]:
        return engine.generate(prompts, sampling, use_tqdm=False)

    engine.generate(prompts[:1], sampling, use_tqdm=False)
    passes = []
    for _ in range(work.passes):
        engine.reset_prefix_cache()
        one, outputs = timed(ask)
        passes.append(one)
    return passes, [in_order(work, output.outputs[0].logprobs[0]) for output in outputs]


def stage(work: Work) -> tuple[list[Pass], Probs]:
    """`ClassifySpans` with an engine of ours: a table of documents in, a table of answers out."""
    backend = WatchedBackend(work.config, work.label_set)
    try:
        backend.start()
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

    async def _generate(
        self, engine: "AsyncLLMEngine", prompt: list[int], *, is_free: bool = False
    ) -> Any:  # noqa: ANN401
        if not self._under_way:
            self._since = time.perf_counter()
        self._under_way += 1
        try:
            return await super()._generate(engine, prompt, is_free=is_free)
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
        self._loop.run(self._live.engine.reset_prefix_cache())


WAYS: Mapping[str, Callable[[Work], tuple[list[Pass], Probs]]] = {
    "raw_vllm": raw_vllm,
    "stage": stage,
    "ray_data_llm": ray_data_llm,
}


if __name__ == "__main__":
    main()
