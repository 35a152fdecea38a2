"""A vLLM engine inside this process' tree: one forward pass a question, no parsing.

The engine may only reply with the symbols of the options, or the first tokens of their names, and
gives the probability of each. Where a tokenizer has no symbols of one token, or too few, it may
only reply with the names of the options, in a few passes and without probabilities.

Importing this module does not import vllm. Starting an engine sets the environment variables that
vllm and its processes read, and does so before the import, so start it before anything else in the
process imports vllm.
"""

import asyncio
import itertools
import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from linkner_ray.config import LlmConfig
from linkner_ray.errors import StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.llm.answers import (
    NON_ENTITY_NAME,
    Answer,
    Verdict,
    class_names,
    read_probs,
    read_text,
)
from linkner_ray.llm.backends.engine_start import (
    START_ERRORS,
    build_engine,
    check_dtype,
    choice_sampling,
    choose_answer_symbols,
    free_sampling,
    load_tokenizer,
    set_environment,
    symbol_sampling,
)
from linkner_ray.llm.backends.forms import ENGINE_SYMBOL, decoding_of
from linkner_ray.llm.backends.live_engine import LiveEngine
from linkner_ray.llm.backends.probe import MIN_ENGINE_MASS, Findings, known_questions
from linkner_ray.llm.backends.protocol import (
    Failures,
    LoopThread,
    StartOnce,
    ask_concurrently,
)
from linkner_ray.llm.chat import PromptEncoder
from linkner_ray.llm.model_identity import known_content, with_known_revision
from linkner_ray.llm.requests import Request

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine, SamplingParams


class VllmBackend:
    """Asks an engine that lives as long as this object, from its start on.

    What can be wrong without an engine is found when it is made; the engine starts with `start`, or
    with the first question.
    """

    _sampling: "SamplingParams"
    _free_sampling: "SamplingParams"
    _findings: Findings
    _max_model_len: int

    def __init__(
        self,
        config: LlmConfig,
        label_set: LabelSet,
        *,
        on_rebuild: Callable[[], None] = lambda: None,
    ) -> None:
        """Load the tokenizer and choose the symbols; the engine comes later.

        Raises:
            StartupError: If there is no such model, or its tokenizer or its dtype does not suit.
        """
        self._config = config
        self._label_set = label_set
        self._tokenizer = load_tokenizer(config)
        # What requests are named by has to be what answers, however late the engine starts.
        self._content = known_content(config)
        self._engine_config = with_known_revision(config)
        check_dtype(self._engine_config)
        self._encoder = PromptEncoder(self._tokenizer, name=config.model)
        self.symbols, self._token_ids = choose_answer_symbols(config, self._encoder, label_set)
        self.decoding = decoding_of(config, self.symbols)
        self._symbol_of = dict(zip(self._token_ids, self.symbols, strict=True))
        self._names = class_names(label_set)
        self._failures = Failures()
        self._numbers = itertools.count()
        self._tokens_computed = 0
        self._live = LiveEngine(
            config,
            build=self._build_same,
            generate=self._generate,
            read=self._read,
            failures=self._failures,
            on_rebuild=on_rebuild,
        )
        self._loop = LoopThread("vllm-loop")
        self._started = StartOnce(self._start)

    def start(self) -> None:
        """Load the model and ask first questions to see that it answers; only the first call does.

        Raises:
            StartupError: If the model cannot be loaded or does not answer as it should, or is not
                the one any more that was there before.
        """
        self._started()

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer every request, in the order given; the first ones start the engine.

        Raises:
            BackendError: If the engine died more often than it may be rebuilt.
            StartupError: If it does not start.
        """
        if not requests:
            return []
        self.start()
        prompts = [self._encode(request) for request in requests]
        return self._loop.run(
            ask_concurrently(list(zip(requests, prompts, strict=True)), self._ask_one)
        )

    def describe(self) -> dict[str, str | int]:
        """Model, version of the engine, rebuilds, and failures by reason."""
        return {
            "backend": "vllm",
            "model": self._config.model,
            "revision": self._config.revision or "",
            **(self._describe_engine() if self._started else {"engine": "not started"}),
            "engine_rebuilds": self._live.rebuilds,
            "engine_hangs": self._live.hangs,
            **self._failures.described(),
        }

    def _describe_engine(self) -> dict[str, str | int]:
        import vllm

        return {
            "engine": f"vllm {vllm.__version__}",
            "max_model_len": self._max_model_len,
            "prompt_tokens_computed": self._tokens_computed,
            **self._findings.describe(),
        }

    def close(self) -> None:
        """End the engine's processes."""
        self._live.shutdown()
        self._loop.close()

    def _start(self) -> None:
        set_environment()
        names = [NON_ENTITY_NAME, *(label.name for label in self._label_set.labels)]
        try:
            self._loop.run(self._live.start())
            self._sampling = (
                symbol_sampling(self._token_ids) if self.symbols else choice_sampling(names)
            )
            self._free_sampling = free_sampling(self._sampling)
            self._max_model_len = self._live.engine.model_config.max_model_len
            self._loop.run(self._warm_up())
            self._tokens_computed = 0  # those of a run's own questions count
        except StartupError:
            self.close()
            raise
        except START_ERRORS as error:
            self.close()
            raise StartupError(
                f"vLLM could not load {self._config.model}: {type(error).__name__}: {error}\n"
                "The engine's log above names the cause. If that is memory: lower "
                "llm.max_model_len or llm.max_num_seqs, or give the engine more by "
                "llm.gpu_memory_utilization (GPU) or llm.kv_cache_bytes (CPU)"
            ) from error

    async def _build_same(self) -> "AsyncLLMEngine":
        """Build an engine of the very model that requests are named by.

        Raises:
            StartupError: If its folder holds another one by now.
        """
        engine = await self._build()
        if known_content(self._config) != self._content:
            engine.shutdown()
            raise StartupError(
                f"{self._config.model}: the files of the model changed while the run was under "
                "way, and answers would be kept under a wrong name; start the run again, and put "
                "another model into another folder"
            )
        return engine

    def _encode(self, request: Request) -> list[int]:
        return self._encoder.encode(
            request.fixed_part, request.user_message, demonstrations=request.fixed_demonstrations
        )

    async def _build(self) -> "AsyncLLMEngine":
        """Build an engine on the loop it will live on; nothing else runs there meanwhile."""
        return build_engine(self._engine_config, len(self._token_ids))

    async def _warm_up(self) -> None:
        """Ask questions whose answers are known, each as usual and once without restrictions."""
        from vllm.exceptions import VLLMError

        known = known_questions(
            self._label_set, self.symbols, model=self._config.model, decoding=self.decoding
        )
        answers, masses = [], []
        for request, _ in known:
            prompt = self._encode(request)
            if not self._fits(prompt):
                raise StartupError(
                    f"{self._config.model}: a short question takes {len(prompt)} tokens, and the "
                    f"engine's context has {self._max_model_len}; raise llm.max_model_len"
                )
            try:
                async with asyncio.timeout(self._config.request_timeout_s):
                    output = await self._generate(self._live.engine, prompt)
                    free = await self._generate(self._live.engine, prompt, is_free=True)
            except (VLLMError, TimeoutError) as error:
                raise StartupError(
                    f"{self._config.model}: the engine came up but did not answer a first "
                    f"question: {type(error).__name__}: {error.__cause__ or error}; see its "
                    "log above"
                ) from error
            if output is None:
                raise StartupError(
                    f"{self._config.model}: the engine came up and replied nothing to a first "
                    "question; see its log above"
                )
            self._check_reply(request, output)
            answers.append(self._read(request, output, len(prompt)))
            masses.append(self._mass(request, free))
        self._findings = Findings.of(known, answers, masses)
        # Left to itself a small model replies with a sentence; held to the names it knows which.
        by_symbol = self.decoding == ENGINE_SYMBOL
        who = self._config.model if by_symbol else f"{self._config.model}, asked by name,"
        self._findings.check(who, min_mass=MIN_ENGINE_MASS if by_symbol else 0.0)

    def _mass(self, request: Request, free: Any) -> float:  # noqa: ANN401 - of vllm
        """Probability on the options of an unrestricted reply; 1 for a name that it gives."""
        if self.symbols:
            # " A" is a token beside "A" in many vocabularies, and says the same.
            options = {self._tokenizer.decode([token_id]).strip() for token_id in self._token_ids}
            return sum(
                math.exp(entry.logprob)
                for token_id, entry in (free.logprobs[0].items() if free and free.logprobs else ())
                if self._tokenizer.decode([token_id]).strip() in options
            )
        verdict = self._read(request, free, 0).verdict
        return float(verdict not in (Verdict.UNREADABLE, Verdict.FAILED))

    def _check_reply(self, request: Request, output: Any) -> None:  # noqa: ANN401 - of vllm
        """Check that a reply is what the engine is held to.

        Raises:
            StartupError: If it is not.
        """
        if not self.symbols:
            if self._read(request, output, 0).verdict is Verdict.UNREADABLE:
                raise StartupError(
                    f"{self._config.model}: the reply to a first question is none of the names; "
                    "this vLLM release does not restrict replies to a choice; install the one of "
                    "requirements/"
                )
            return
        total = sum(self._weights(output).values())
        if not math.isclose(total, 1.0, abs_tol=1e-3):
            raise StartupError(
                f"{self._config.model}: probabilities of the options add up to {total:.4f}, not 1; "
                "this vLLM release does not restrict log-probabilities to the allowed tokens; "
                "install the one of requirements/"
            )

    def _fits(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt leaves room for the longest reply."""
        longest = self._sampling.max_tokens or 1
        return len(prompt) + longest <= self._max_model_len

    async def _ask_one(self, item: tuple[Request, list[int]]) -> Answer:
        request, prompt = item
        if not self._fits(prompt):
            detail = f"{len(prompt)} tokens, the context has {self._max_model_len}"
            return self._failures.answer(request, "prompt_too_long", detail)
        return await self._live.ask(request, prompt)

    async def _generate(
        self, engine: "AsyncLLMEngine", prompt: list[int], *, is_free: bool = False
    ) -> Any:  # noqa: ANN401
        """What the engine replies to a prompt, a `CompletionOutput` of vllm; None for nothing."""
        sampling = self._free_sampling if is_free else self._sampling
        from vllm.inputs import tokens_input

        name = f"{os.getpid()}-{next(self._numbers)}"
        reply: Any = None
        async for output in engine.generate(tokens_input(prompt), sampling, name):
            reply = output.outputs[0] if output.outputs else None
            # Replies come whole, so this is the only output of the prompt.
            self._tokens_computed += len(prompt) - (output.num_cached_tokens or 0)
        return reply

    def _read(self, request: Request, reply: Any, num_tokens: int) -> Answer:  # noqa: ANN401
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
