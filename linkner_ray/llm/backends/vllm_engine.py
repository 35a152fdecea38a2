"""A vLLM engine inside this process' tree: one forward pass a question, no parsing.

The engine may only reply with the symbols of the options, and gives the probability of each. Where
a tokenizer has no symbols of one token, or too few, it may only reply with the names of the
options, in a few passes and without probabilities.

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
from linkner_ray.llm.chat import AnswerSymbols, PromptEncoder
from linkner_ray.llm.prompts import (
    NON_ENTITY_NAME,
    Answer,
    Request,
    Verdict,
    class_names,
    read_probs,
    read_text,
)

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine

logger = logging.getLogger(__name__)

DECODING = "one token out of the symbols, most probable"
DECODING_CHOICE = "one of the names, most probable token by token"

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

    def __init__(self, config: LlmConfig, label_set: LabelSet) -> None:
        """Load the model and ask one question to see that it answers.

        Raises:
            StartupError: If the model cannot be loaded or does not answer as it should.
        """
        _set_environment()
        self._config = config
        self._tokenizer = load_tokenizer(config)
        self._encoder = PromptEncoder(self._tokenizer, name=config.model)
        self.symbols, self._token_ids = choose_answer_symbols(
            config, self._encoder, len(label_set.classes)
        )
        self.decoding = DECODING if self.symbols else DECODING_CHOICE
        self._symbol_of = dict(zip(self._token_ids, self.symbols, strict=True))
        self._names = class_names(label_set)
        self._failures = Failures()
        self._numbers = itertools.count()
        self._rebuilds = 0
        self._hangs = 0
        self._last_reply = 0.0
        self._deadlines: set[asyncio.Timeout] = set()
        names = [NON_ENTITY_NAME, *(label.name for label in label_set.labels)]
        self._sampling = _sampling(self._token_ids) if self.symbols else _choice_sampling(names)
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
        prompts = [self._encode(request) for request in requests]
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

    def _encode(self, request: Request) -> list[int]:
        return self._encoder.encode(
            request.fixed_part, request.user_message, demonstrations=request.fixed_demonstrations
        )

    async def _build(self) -> "AsyncLLMEngine":
        """Build an engine on the loop it will live on; nothing else runs there meanwhile."""
        return _build_engine(self._config, len(self._token_ids))

    async def _warm_up(self, label_set: LabelSet) -> None:
        """Ask one question: the first one is slow, and shows whether answers are distributions."""
        from vllm.exceptions import VLLMError

        request = first_request(
            label_set, self.symbols, model=self._config.model, decoding=self.decoding
        )
        prompt = self._encode(request)
        if not self._fits(prompt):
            raise StartupError(
                f"{self._config.model}: a short question takes {len(prompt)} tokens, and the "
                f"engine's context has {self._max_model_len}; raise llm.max_model_len"
            )
        try:
            async with asyncio.timeout(self._config.request_timeout_s):
                output = await self._generate(self._engine, prompt)
        except (VLLMError, TimeoutError) as error:
            raise StartupError(
                f"{self._config.model}: the engine came up but did not answer a first question: "
                f"{type(error).__name__}: {error.__cause__ or error}"
            ) from error
        self._check_reply(request, output)

    def _check_reply(self, request: Request, output: Any) -> None:  # noqa: ANN401 - of vllm
        """Check that a reply is what the engine is held to.

        Raises:
            StartupError: If it is not.
        """
        if not self.symbols:
            if self._read(request, output, num_tokens=0).verdict is Verdict.UNREADABLE:
                raise StartupError(
                    f"{self._config.model}: the reply to a first question is none of the names; "
                    "this vLLM release does not restrict replies to a choice"
                )
            return
        total = sum(self._weights(output).values())
        if not math.isclose(total, 1.0, abs_tol=1e-3):
            raise StartupError(
                f"{self._config.model}: probabilities of the options add up to {total:.4f}, not 1; "
                "this vLLM release does not restrict log-probabilities to the allowed tokens"
            )

    def _fits(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt leaves room for the longest reply."""
        return len(prompt) + self._sampling.max_tokens <= self._max_model_len

    async def _ask_one(self, item: tuple[Request, list[int]]) -> Answer:
        request, prompt = item
        if not self._fits(prompt):
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
            reply = await self._generate_in_time(engine, prompt)
        except EngineDeadError:
            await self._replace(engine)
            return None
        except TimeoutError:
            if engine is not self._engine:
                return None
            return await self._give_up_waiting(request, engine, since=begun)
        except (VLLMClientError, EngineGenerateError) as error:
            return self._failures.answer(request, "rejected", error.__cause__ or error)
        return self._read(request, reply, num_tokens=len(prompt))

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

    async def _generate_in_time(self, engine: "AsyncLLMEngine", prompt: list[int]) -> Any:  # noqa: ANN401
        """Wait for a reply, but no longer than allowed, and not for an engine that is replaced.

        Raises:
            TimeoutError: In either case.
        """
        async with asyncio.timeout(self._config.request_timeout_s) as deadline:
            self._deadlines.add(deadline)
            try:
                reply = await self._generate(engine, prompt)
            finally:
                self._deadlines.discard(deadline)
        self._last_reply = time.monotonic()
        return reply

    async def _generate(self, engine: "AsyncLLMEngine", prompt: list[int]) -> Any:  # noqa: ANN401
        """What the engine replies to a prompt, a `CompletionOutput` of vllm; None for nothing."""
        from vllm.inputs import tokens_input

        name = f"{os.getpid()}-{next(self._numbers)}"
        reply: Any = None
        async for output in engine.generate(tokens_input(prompt), self._sampling, name):
            reply = output.outputs[0] if output.outputs else None
        return reply

    def _read(self, request: Request, reply: Any, *, num_tokens: int) -> Answer:  # noqa: ANN401
        if reply is None:
            return self._failures.answer(request, "empty_reply", "the engine replied nothing")
        if not self.symbols:
            text = self._tokenizer.decode(reply.token_ids, skip_special_tokens=True)
            return read_text(request, text, self._names, prompt_tokens=num_tokens)
        weights = self._weights(reply)
        if not sum(weights.values()) > 0.0:  # not a number, too, where a model is broken
            detail = "the engine's reply has no probability for any symbol"
            return self._failures.answer(request, "empty_reply", detail)
        return read_probs(request, weights, prompt_tokens=num_tokens)

    def _weights(self, reply: Any) -> dict[str, float]:  # noqa: ANN401
        """Probability of each symbol as the first token of a reply."""
        return {
            self._symbol_of[token_id]: math.exp(entry.logprob)
            for token_id, entry in (reply.logprobs[0].items() if reply.logprobs else ())
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


def choose_answer_symbols(config: LlmConfig, encoder: PromptEncoder, count: int) -> AnswerSymbols:
    """Find symbols for the options, or none where replies are to be names.

    Args:
        config: Says which form answers may have.
        encoder: Of the model.
        count: Number of options.

    Raises:
        StartupError: If symbols are wanted and the tokenizer has none that suit.
    """
    if config.answer_form == "choice":
        return AnswerSymbols((), ())
    try:
        return encoder.choose_symbols(count)
    except StartupError as error:
        if config.answer_form == "symbol":
            raise
        logger.warning("%s; replies are names now, without probabilities", error)
        return AnswerSymbols((), ())


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


def load_tokenizer(config: LlmConfig) -> Any:  # noqa: ANN401 - a class that depends on the model
    """Tokenizer of the configured model.

    Raises:
        StartupError: If it cannot be loaded.
    """
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


def _choice_sampling(names: Sequence[str]) -> Any:  # noqa: ANN401 - a class of vllm
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        temperature=0.0,
        max_tokens=1 + max(len(name.encode()) for name in names),  # a byte a token, then the end
        structured_outputs=StructuredOutputsParams(choice=list(names)),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _build_engine(config: LlmConfig, num_symbols: int) -> "AsyncLLMEngine":
    """Start the engine's processes and load the model; blocks until they are ready."""
    from vllm import AsyncEngineArgs, AsyncLLMEngine

    arguments = AsyncEngineArgs(**engine_arguments(config, num_symbols), enable_log_requests=False)
    return AsyncLLMEngine.from_engine_args(arguments)


def engine_arguments(config: LlmConfig, num_symbols: int) -> dict[str, Any]:
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
        # Prompts are token ids and replies are not made text; only names need a grammar.
        "skip_tokenizer_init": num_symbols > 0,
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": num_symbols,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **given,
    }
