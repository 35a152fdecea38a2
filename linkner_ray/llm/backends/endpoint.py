"""Any OpenAI-compatible endpoint, asked for one token at a time and many at once.

Where the server gives log-probabilities the answer is a distribution over the classes; where it
does not, the reply itself is read.
"""

import asyncio
import importlib.metadata
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from linkner_ray.config import LlmConfig
from linkner_ray.errors import BackendError, StartupError, hide_secrets
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends.deadlines import Deadlines, SilenceError
from linkner_ray.llm.backends.forms import ENDPOINT_SYMBOL
from linkner_ray.llm.backends.probe import Findings, Known, known_questions
from linkner_ray.llm.backends.protocol import (
    Failures,
    LoopThread,
    StartOnce,
    ask_concurrently,
)
from linkner_ray.llm.prompts import (
    Answer,
    Request,
    Verdict,
    choose_symbols,
    class_names,
    read_probs,
    read_text,
)

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

_MAX_TOP_LOGPROBS = 20
"""No server offers more."""

THINKING_OFF = {"enable_thinking": False, "thinking": False}
"""For the chat template of a server: vLLM, SGLang and llama.cpp hand it on."""

_MIN_SYMBOL_MASS = 0.5
"""Probability that must lie on the symbols: below it the model is saying something else."""


class _TokenProb(BaseModel):
    token: str
    logprob: float


class _Position(BaseModel):
    top_logprobs: list[_TokenProb] = []


class _Logprobs(BaseModel):
    content: list[_Position] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int


class _Completion(BaseModel):
    """What is read of a chat completion; whatever else a server sends is ignored."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class EndpointBackend:
    """Asks a server that the project does not run; `start` shows whether it answers."""

    decoding = ENDPOINT_SYMBOL

    def __init__(self, config: LlmConfig, label_set: LabelSet) -> None:
        """Prepare the client; no request is sent yet."""
        self.symbols = choose_symbols(len(label_set.classes))
        self._config = config
        self._names = class_names(label_set)
        self._failures = Failures()
        self._in_flight = asyncio.Semaphore(config.max_in_flight)
        self._with_logprobs = True
        self._template_settings: dict[str, Any] = {}
        self._findings: Findings | None = None
        self._masses: dict[str, float] = {}  # by key, of the questions at the start
        self._client = _make_client(config)
        self._label_set = label_set
        self._is_closed = False
        self._loop = LoopThread("endpoint-loop")
        self._started = StartOnce(self._start)

    def start(self) -> None:
        """Ask first questions to see that the server answers; only the first call does.

        Raises:
            BackendError: If the server refuses the key or does not know the model.
            StartupError: If it does not answer.
        """
        self._started()

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer every request, in the order given, after those of `start`.

        Raises:
            BackendError: If the server refuses the key or does not know the model.
            StartupError: If it does not answer those of `start`.
        """
        if not requests:
            return []
        self.start()
        return self._loop.run(ask_concurrently(requests, self._ask_one))

    def describe(self) -> dict[str, str | int]:
        """Model, address, version of the client, and failures by reason."""
        return {
            "backend": "openai",
            "model": self._config.model,
            "revision": self._config.revision or "",
            "base_url": hide_secrets(self._config.base_url or ""),
            "engine": f"openai {importlib.metadata.version('openai')}",
            **(self._findings.describe() if self._findings else {}),
            **self._failures.described(),
        }

    def close(self) -> None:
        """Close all connections."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.run(self._client.close())
            self._loop.close()

    def _start(self) -> None:
        try:
            self._loop.run(self._probe())
        except (BackendError, StartupError):
            self.close()
            raise

    async def _probe(self) -> None:
        """Ask questions whose answers are known.

        Without log-probabilities if the server refuses them, and once more with thinking switched
        off if it says something else than an option.
        """
        known = known_questions(
            self._label_set, self.symbols, model=self._config.model, decoding=self.decoding
        )
        request = known[0].request
        answer = await self._ask_one(request)
        if self._failures.counts.pop("rejected", 0):
            self._with_logprobs = False
            answer = await self._ask_one(request)
        if answer.verdict is Verdict.FAILED:
            reasons = ", ".join(self._failures.counts)
            raise StartupError(
                f"{self._where()}: no answer to a first question ({reasons}; see the log above); "
                "is the server running?"
            )
        found = await self._ask_known(known, [answer])
        if 2 * found.num_unreadable > found.num_asked:
            self._template_settings = {"chat_template_kwargs": THINKING_OFF}
            found = await self._ask_known(known)
            if self._failures.counts.pop("rejected", 0):  # it knows no such settings
                self._template_settings = {}
                found = await self._ask_known(known)
        found.check(self._where(), min_mass=0.0)
        self._findings = found

    async def _ask_known(self, known: Sequence[Known], given: Sequence[Answer] = ()) -> Findings:
        """Ask what has no answer given yet."""
        requests = [one.request for one in known]
        answers = [*given, *await ask_concurrently(requests[len(given) :], self._ask_one)]
        return Findings.of(known, answers, [self._masses.get(r.key, 0.0) for r in requests])

    def _where(self) -> str:
        return f"{hide_secrets(str(self._config.base_url))}, model '{self._config.model}'"

    async def _ask_one(self, request: Request) -> Answer:
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            async with self._in_flight:
                body = await self._complete(request)
            return self._read(request, _Completion.model_validate_json(body))
        except APITimeoutError:
            detail = f"no reply within {self._config.request_timeout_s} s of its turn"
            return self._failures.answer(request, "timeout", detail)
        except APIConnectionError as error:
            return self._failures.answer(request, "unreachable", error.__cause__ or error)
        except APIStatusError as error:
            self._stop_if_hopeless(error)
            reason = "rejected" if error.status_code in (400, 413, 422) else "overloaded"
            return self._failures.answer(request, reason, error)
        except ValidationError as error:
            return self._failures.answer(request, "malformed_reply", error)

    async def _complete(self, request: Request) -> bytes:
        """Body of the server's reply; the client retries 408, 409, 429, 5xx and lost connections.

        Between tries it waits as long as the server asks, or twice as long each time with jitter.
        """
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": role, "content": text} for role, text in request.messages],
            "max_tokens": 1,
            "temperature": 0.0,
            "extra_body": self._template_settings,
        }
        if self._with_logprobs:
            # Twice the symbols: a token with a leading space is listed apart.
            most = min(_MAX_TOP_LOGPROBS, 2 * len(request.options))
            body |= {"logprobs": True, "top_logprobs": most}
        response = await self._client.chat.completions.with_raw_response.create(**body)
        return response.content

    def _read(self, request: Request, completion: _Completion) -> Answer:
        choice = completion.choices[0]
        tokens = completion.usage.prompt_tokens if completion.usage else None
        weights = _symbol_weights(request, choice.logprobs)
        mass = sum(weights.values())
        if mass >= _MIN_SYMBOL_MASS:
            answer = read_probs(request, weights, prompt_tokens=tokens)
        else:
            text = choice.message.content or ""
            answer = read_text(request, text, self._names, prompt_tokens=tokens)
        if not self._started:
            is_read = answer.verdict is not Verdict.UNREADABLE
            has_probs = choice.logprobs is not None and bool(choice.logprobs.content)
            self._masses[request.key] = mass if has_probs else float(is_read)
        return answer

    def _stop_if_hopeless(self, error: "APIStatusError") -> None:
        """Raise for a status that no later request can change."""
        where = self._where()
        match error.status_code:
            case 401 | 403:
                message = (
                    f"{where}: the server refuses the key ({error.status_code}); set the "
                    f"environment variable {self._config.api_key_env} on every node"
                )
            case 404:
                message = f"{where}: not found (404); check llm.base_url and llm.model"
            case _:
                return
        raise BackendError(message, retryable=False) from None


def _make_client(config: LlmConfig) -> "AsyncOpenAI":
    """A client each of whose tries has a deadline, see `Deadlines`; pauses between them do not."""
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    deadlines = Deadlines(config.request_timeout_s)

    class Client(DefaultAsyncHttpxClient):
        async def send(self, request: httpx2.Request, **settings: Any) -> httpx2.Response:  # noqa: ANN401 - of httpx
            try:
                async with deadlines.limited():
                    return await super().send(request, **settings)
            except TimeoutError as error:
                if isinstance(error, SilenceError):  # it hangs, so there is nothing to wait for
                    deadlines.end_all()
                raise httpx2.ReadTimeout("no reply in time", request=request) from error

    return AsyncOpenAI(
        base_url=config.base_url,
        api_key=os.environ.get(config.api_key_env) or "EMPTY",
        timeout=httpx2.Timeout(None, connect=config.request_timeout_s),
        max_retries=config.max_retries,
        http_client=Client(),
    )


def _symbol_weights(request: Request, logprobs: _Logprobs | None) -> dict[str, float]:
    """Probability of each symbol at the first position, with or without a leading space."""
    weights = {symbol: 0.0 for symbol, _ in request.options}
    if logprobs is not None and logprobs.content:
        for entry in logprobs.content[0].top_logprobs:
            symbol = entry.token.strip()
            if symbol in weights:
                weights[symbol] += math.exp(entry.logprob)
    return weights
