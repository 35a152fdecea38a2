"""A vLLM engine inside this process' tree: one forward pass a question, no parsing.

The engine may only reply with the symbols of the options, and gives the probability of each.

Importing this module does not import vllm. Starting a backend sets the environment variables that
vllm and its processes read, and does so before the import, so start it before anything else in the
process imports vllm.
"""

import asyncio
import itertools
import logging
import math
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from linkner_ray.config import LlmConfig
from linkner_ray.errors import BackendError, StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.protocol import Failures, LoopThread, ask_concurrently, first_request
from linkner_ray.llm.chat import PromptEncoder
from linkner_ray.llm.prompts import Answer, Request, read_probs

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine

logger = logging.getLogger(__name__)

DECODING = "one token out of the symbols, most probable"

_START_ERRORS = (
    RuntimeError,
    ValueError,
    OSError,
    ImportError,
    AssertionError,
    TypeError,
    LookupError,
    MemoryError,
)
"""What building an engine is seen to raise: its own checks, files, memory, a dead process."""


class VllmBackend:
    """Asks an engine that lives as long as this object."""

    decoding = DECODING

    def __init__(self, config: LlmConfig, label_set: LabelSet) -> None:
        """Load the model and ask one question to see that it answers.

        Raises:
            StartupError: If the model cannot be loaded or does not answer as it should.
        """
        _set_environment()
        self._config = config
        self._encoder = PromptEncoder(_load_tokenizer(config), name=config.model)
        self.symbols, self._token_ids = self._encoder.choose_symbols(len(label_set.classes))
        self._symbol_of = dict(zip(self._token_ids, self.symbols, strict=True))
        self._failures = Failures()
        self._numbers = itertools.count()
        self._rebuilds = 0
        self._hangs = 0
        self._last_reply = 0.0
        self._deadlines: set[asyncio.Timeout] = set()
        self._sampling = _sampling(self._token_ids)
        self._in_flight = asyncio.Semaphore(config.max_in_flight)
        self._rebuilding = asyncio.Lock()
        self._suspects = asyncio.Lock()
        self._loop = LoopThread("vllm-loop")
        try:
            self._engine = self._loop.run(self._build())
        except _START_ERRORS as error:
            self._loop.close()
            raise StartupError(
                f"vLLM could not load {config.model}: {type(error).__name__}: {error}\n"
                "The engine's log above names the cause. If that is memory: lower "
                "llm.max_model_len or llm.max_num_seqs, or give the engine more by "
                "llm.gpu_memory_utilization (GPU) or llm.kv_cache_bytes (CPU)"
            ) from error
        self._max_model_len: int = self._engine.model_config.max_model_len
        try:
            self._loop.run(self._warm_up(label_set))
        except StartupError:
            self.close()
            raise

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer every request, in the order given.

        Raises:
            BackendError: If the engine died more often than it may be rebuilt.
        """
        prompts = [self._encoder.encode(r.fixed_part, r.user_message) for r in requests]
        return self._loop.run(
            ask_concurrently(list(zip(requests, prompts, strict=True)), self._ask_one)
        )

    def describe(self) -> dict[str, str | int]:
        """Model, version of the engine, rebuilds, and failures by reason."""
        import vllm

        return {
            "backend": "vllm",
            "model": self._config.model,
            "revision": self._config.revision or "",
            "engine": f"vllm {vllm.__version__}",
            "max_model_len": self._max_model_len,
            "engine_rebuilds": self._rebuilds,
            "engine_hangs": self._hangs,
            **{f"failed_{reason}": count for reason, count in self._failures.counts.items()},
        }

    def close(self) -> None:
        """End the engine's processes."""
        self._engine.shutdown()
        self._loop.close()

    async def _build(self) -> "AsyncLLMEngine":
        """Build an engine on the loop it will live on; nothing else runs there meanwhile."""
        return _build_engine(self._config, len(self._token_ids))

    async def _warm_up(self, label_set: LabelSet) -> None:
        """Ask one question: the first one is slow, and shows whether answers are distributions."""
        from vllm.exceptions import VLLMError

        request = first_request(
            label_set, self.symbols, model=self._config.model, decoding=DECODING
        )
        prompt = self._encoder.encode(request.fixed_part, request.user_message)
        if len(prompt) >= self._max_model_len:
            raise StartupError(
                f"{self._config.model}: a short question takes {len(prompt)} tokens, and the "
                f"engine's context has {self._max_model_len}; raise llm.max_model_len"
            )
        try:
            async with asyncio.timeout(self._config.request_timeout_s):
                weights = await self._generate(self._engine, prompt)
        except (VLLMError, TimeoutError) as error:
            raise StartupError(
                f"{self._config.model}: the engine came up but did not answer a first question: "
                f"{type(error).__name__}: {error.__cause__ or error}"
            ) from error
        if not math.isclose(sum(weights.values()), 1.0, abs_tol=1e-3):
            raise StartupError(
                f"{self._config.model}: probabilities of the options add up to "
                f"{sum(weights.values()):.4f}, not 1; this vLLM release does not restrict "
                "log-probabilities to the allowed tokens"
            )

    async def _ask_one(self, item: tuple[Request, list[int]]) -> Answer:
        request, prompt = item
        if len(prompt) >= self._max_model_len:
            detail = f"{len(prompt)} tokens, the context has {self._max_model_len}"
            return self._failures.answer(request, "prompt_too_long", detail)
        async with self._in_flight:
            return await self._ask_through_crashes(request, prompt)

    async def _ask_through_crashes(self, request: Request, prompt: list[int]) -> Answer:
        """Ask until answered, or until the engine died `max_span_crashes` times meanwhile.

        What was under way when the engine died is asked again one at a time, so a request that
        kills engines is found out without costing its companions their answers.
        """
        for crashes in range(self._config.max_span_crashes):
            async with self._suspects if crashes else nullcontext():
                answer = await self._ask_live_engine(request, prompt)
            if answer is not None:
                return answer
        detail = f"the engine died {self._config.max_span_crashes} times while it was under way"
        return self._failures.answer(request, "engine_crash", detail)

    async def _ask_live_engine(self, request: Request, prompt: list[int]) -> Answer | None:
        """Ask the engine of the moment; None if it was replaced meanwhile."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        engine, begun = self._engine, time.monotonic()
        try:
            weights = await self._generate_in_time(engine, prompt)
        except EngineDeadError:
            await self._replace(engine)
            return None
        except TimeoutError:
            if engine is not self._engine:
                return None
            return await self._give_up_waiting(request, engine, since=begun)
        except (VLLMClientError, EngineGenerateError) as error:
            return self._failures.answer(request, "rejected", error.__cause__ or error)
        if not sum(weights.values()) > 0.0:  # not a number, too, where a model is broken
            detail = "the engine's reply has no probability for any symbol"
            return self._failures.answer(request, "empty_reply", detail)
        return read_probs(request, weights, prompt_tokens=len(prompt))

    async def _give_up_waiting(
        self, request: Request, engine: "AsyncLLMEngine", *, since: float
    ) -> Answer:
        """Fail a request that waited too long; an engine that was silent meanwhile is replaced.

        As long as the engine answers others it is slow, not hung.
        """
        if self._last_reply < since:
            self._hangs += 1
            await self._replace(engine)
        detail = f"no reply within {self._config.request_timeout_s} s"
        return self._failures.answer(request, "timeout", detail)

    async def _generate_in_time(
        self, engine: "AsyncLLMEngine", prompt: list[int]
    ) -> dict[str, float]:
        """Wait for a reply, but no longer than allowed, and not for an engine that is replaced.

        Raises:
            TimeoutError: In either case.
        """
        async with asyncio.timeout(self._config.request_timeout_s) as deadline:
            self._deadlines.add(deadline)
            try:
                weights = await self._generate(engine, prompt)
            finally:
                self._deadlines.discard(deadline)
        self._last_reply = time.monotonic()
        return weights

    async def _generate(self, engine: "AsyncLLMEngine", prompt: list[int]) -> dict[str, float]:
        """Probability of each symbol as the reply to a prompt; nothing for an empty reply."""
        from vllm.inputs import tokens_input

        name = f"{os.getpid()}-{next(self._numbers)}"
        logprobs: Any = None
        async for output in engine.generate(tokens_input(prompt), self._sampling, name):
            logprobs = output.outputs[0].logprobs if output.outputs else None
        return {
            self._symbol_of[token_id]: math.exp(entry.logprob)
            for token_id, entry in (logprobs[0].items() if logprobs else ())
            if token_id in self._symbol_of
        }

    async def _replace(self, dead: "AsyncLLMEngine") -> None:
        """Put a new engine in the place of a dead or hung one; one caller does, the others wait.

        Whatever else still waits for the old one stops doing so.

        Raises:
            BackendError: If it was rebuilt `max_engine_rebuilds` times already.
        """
        async with self._rebuilding:
            while self._engine is dead:
                if self._rebuilds >= self._config.max_engine_rebuilds:
                    raise BackendError(
                        f"vLLM engine of {self._config.model} died again after {self._rebuilds} "
                        f"rebuilds ({self._hangs} times it was silent for longer than "
                        f"llm.request_timeout_s = {self._config.request_timeout_s:g}); see its log "
                        "above for the cause, often too little memory",
                        retryable=False,
                    )
                self._rebuilds += 1
                logger.warning("vLLM engine died; rebuild %d begins", self._rebuilds)
                dead.shutdown()
                try:
                    self._engine = await self._build()
                except _START_ERRORS:
                    logger.exception("rebuild %d failed", self._rebuilds)
                    continue
                now = asyncio.get_running_loop().time()
                for deadline in self._deadlines:
                    if not deadline.expired():
                        deadline.reschedule(now)


def _set_environment() -> None:
    """Set what vllm reads at import and what its processes inherit."""
    # A forked engine inherits locks that other threads of this process hold.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def _set_cpu_environment(config: LlmConfig) -> None:
    """Set what the engine's processes read on a machine without a GPU."""
    # Left to itself, every engine of a machine binds its threads to the same cores.
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    os.environ["OMP_NUM_THREADS"] = str(config.num_threads)
    if config.tensor_parallel_size == 1:
        # The model runs in the engine's process: a process less to start, and the same speed.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    if config.enforce_eager:
        # A helper for log-probabilities would still be compiled, which needs a C++ compiler.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"


def _load_tokenizer(config: LlmConfig) -> Any:  # noqa: ANN401 - a class that depends on the model
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(config.model, revision=config.revision)
    except (OSError, ValueError, KeyError) as error:
        raise StartupError(f"tokenizer of {config.model} cannot be loaded: {error}") from error


def _sampling(token_ids: Sequence[int]) -> Any:  # noqa: ANN401 - a class of vllm
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        allowed_token_ids=list(token_ids),
        logprobs=len(token_ids),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _build_engine(config: LlmConfig, num_options: int) -> "AsyncLLMEngine":
    """Start the engine's processes and load the model; blocks until they are ready."""
    from vllm import AsyncEngineArgs, AsyncLLMEngine

    arguments = AsyncEngineArgs(**engine_arguments(config, num_options), enable_log_requests=False)
    return AsyncLLMEngine.from_engine_args(arguments)


def engine_arguments(config: LlmConfig, num_options: int) -> dict[str, Any]:
    """Arguments of an engine as a config wants it; also sets what its processes read at start."""
    from vllm.platforms import current_platform

    given: dict[str, Any] = {"gpu_memory_utilization": config.gpu_memory_utilization}
    if current_platform.is_cpu():
        _set_cpu_environment(config)
        given = {"kv_cache_memory_bytes": config.kv_cache_bytes}
    if config.max_model_len is not None:
        given["max_model_len"] = config.max_model_len
    if config.tensor_parallel_size > 1:
        given["distributed_executor_backend"] = "mp"
    return {
        "model": config.model,
        "revision": config.revision,
        "dtype": config.dtype,
        "max_num_seqs": config.max_num_seqs,
        "tensor_parallel_size": config.tensor_parallel_size,
        "enforce_eager": config.enforce_eager,
        "enable_prefix_caching": config.prefix_caching,
        "skip_tokenizer_init": True,  # prompts are token ids and replies are not made text
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": num_options,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **given,
    }
