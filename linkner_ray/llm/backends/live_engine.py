"""An engine that is replaced when it dies or falls silent, so that its requests still get answers.

Knows of vllm only how its engines fail. Importing this module does not import vllm.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from linkner_ray.config import LlmConfig
from linkner_ray.errors import BackendError
from linkner_ray.llm.answers import Answer
from linkner_ray.llm.backends.deadlines import Deadlines, SilenceError
from linkner_ray.llm.backends.engine_start import START_ERRORS
from linkner_ray.llm.backends.protocol import Failures
from linkner_ray.llm.requests import Request

if TYPE_CHECKING:
    from vllm import AsyncLLMEngine

logger = logging.getLogger(__name__)


class LiveEngine:
    """The present engine; it and its callers live on one event loop."""

    def __init__(  # noqa: PLR0913 - what differs from engine to engine
        self,
        config: LlmConfig,
        *,
        build: Callable[[], Coroutine[Any, Any, "AsyncLLMEngine"]],
        generate: Callable[["AsyncLLMEngine", list[int]], Coroutine[Any, Any, Any]],
        read: Callable[[Request, Any, int], Answer],
        failures: Failures,
        on_rebuild: Callable[[], None] = lambda: None,
    ) -> None:
        """Take what differs from engine to engine; nothing is built yet.

        Args:
            config: How long to wait, how many requests at once, how often to rebuild.
            build: Makes an engine.
            generate: Has an engine reply to a prompt.
            read: Makes an answer of a request, the reply to it and the tokens of its prompt.
            failures: Counts requests that get no reply.
            on_rebuild: Told of each rebuild as it begins.
        """
        self.rebuilds = 0
        self.hangs = 0
        self._config = config
        self._build = build
        self._generate = generate
        self._read = read
        self._failures = failures
        self._on_rebuild = on_rebuild
        self._engine: AsyncLLMEngine | None = None
        self._deadlines = Deadlines(config.request_timeout_s)
        # As many as it works on and as many that are ready, so that it never runs dry.
        self._in_flight = asyncio.Semaphore(min(config.max_in_flight, 2 * config.max_num_seqs))
        self._rebuilding = asyncio.Lock()
        self._suspects = asyncio.Lock()

    @property
    def engine(self) -> "AsyncLLMEngine":
        """The engine of the moment, once there is one."""
        if self._engine is None:
            raise ValueError("the engine is not started; call `start` before anything is asked")
        return self._engine

    async def start(self) -> None:
        """Build the first engine; its errors are the caller's, see `START_ERRORS`."""
        self._engine = await self._build()

    def shutdown(self) -> None:
        """End the engine's processes, if there are any."""
        if self._engine is not None:
            self._engine.shutdown()

    async def ask(self, request: Request, prompt: list[int]) -> Answer:
        """Ask until answered, or until the engine died `max_span_crashes` times meanwhile.

        What was under way when the engine died is asked again one at a time, so a request that
        kills engines is found out without costing its companions their answers.

        Raises:
            BackendError: If the engine died more often than it may be rebuilt.
        """
        async with self._in_flight:
            for crashes in range(self._config.max_span_crashes):
                async with self._suspects if crashes else nullcontext():
                    answer = await self._ask_once(request, prompt)
                if answer is not None:
                    return answer
        detail = f"the engine died {self._config.max_span_crashes} times while it was under way"
        return self._failures.answer(request, "engine_crash", detail)

    async def _ask_once(self, request: Request, prompt: list[int]) -> Answer | None:
        """Ask the engine of the moment; None if it was replaced meanwhile."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        engine = self.engine
        try:
            async with self._deadlines.limited():
                reply = await self._generate(engine, prompt)
        except EngineDeadError:
            await self._replace(engine)
            return None
        except TimeoutError as error:
            if engine is not self._engine or self._rebuilding.locked():
                await self._replace(engine)
                return None
            if isinstance(error, SilenceError):
                self.hangs += 1
                await self._replace(engine)
            detail = f"no reply within {self._config.request_timeout_s} s of its turn"
            return self._failures.answer(request, "timeout", detail)
        except (VLLMClientError, EngineGenerateError) as error:
            return self._failures.answer(request, "rejected", error.__cause__ or error)
        return self._read(request, reply, len(prompt))

    async def _replace(self, dead: "AsyncLLMEngine") -> None:
        """Put a new engine in the place of a dead or hung one; one caller does, the others wait.

        Whatever else still waits for the old one stops doing so.

        Raises:
            BackendError: If it was rebuilt `max_engine_rebuilds` times already.
        """
        async with self._rebuilding:
            while self._engine is dead:
                if self.rebuilds >= self._config.max_engine_rebuilds:
                    raise BackendError(
                        f"vLLM engine of {self._config.model} died again after {self.rebuilds} "
                        f"rebuilds ({self.hangs} times it was silent for longer than "
                        f"llm.request_timeout_s = {self._config.request_timeout_s:g}); see its log "
                        "above for the cause, often too little memory",
                        retryable=False,
                    )
                self.rebuilds += 1
                self._on_rebuild()
                logger.warning("vLLM engine died; rebuild %d begins", self.rebuilds)
                dead.shutdown()
                try:
                    self._engine = await self._build()
                except START_ERRORS:
                    logger.exception("rebuild %d failed", self.rebuilds)
                    continue
                self._deadlines.end_all()
