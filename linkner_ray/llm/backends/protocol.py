"""What a backend promises, and what all backends share."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from linkner_ray.errors import LinknerError, hide_secrets
from linkner_ray.llm.prompts import Answer, Request, Verdict

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Backend(Protocol):
    """Answers requests; safe to be called by several threads at once."""

    symbols: tuple[str, ...]
    """What stands for the options in a reply, one for each class of the label set: a symbol, or a
    word whose first token no other one has. None where a reply is the name of an option."""

    decoding: str
    """How a reply is produced; part of the name of every request."""

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer every request, in the order given.

        A request that gets no reply is answered FAILED.

        Raises:
            BackendError: If no further request can succeed.
        """
        ...

    def describe(self) -> dict[str, str | int]:
        """Model, versions and counters, for the report of a run."""
        ...

    def close(self) -> None:
        """Free what the backend holds; it cannot be asked afterwards."""
        ...


class LoopThread:
    """An event loop in a thread of its own, for asynchronous clients behind synchronous methods.

    A loop shared with a caller is stalled by whatever else the caller does on it, and an engine's
    output then waits.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result; from any other thread."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()  # changes nothing unless the wait was interrupted

    def close(self) -> None:
        """Cancel what is under way and end the thread."""
        if self._loop.is_closed():
            return
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class StartOnce:
    """Starts something once, when it is first needed; later callers get the same error, if any."""

    def __init__(self, start: Callable[[], None]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._is_started = False
        self._error: LinknerError | None = None

    def __bool__(self) -> bool:
        """Whether it is started."""
        return self._is_started

    def __call__(self) -> None:
        """Start it, or wait for the thread that does.

        Raises:
            LinknerError: What starting it raised; it is not tried again.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._is_started:
                try:
                    self._start()
                except LinknerError as error:
                    self._error = error
                    raise
                self._is_started = True


async def ask_concurrently(
    items: Sequence[T], ask_one: Callable[[T], Coroutine[Any, Any, Answer]]
) -> list[Answer]:
    """Ask all at once and time each; the first error ends the rest and is raised as it is."""

    async def timed(item: T) -> Answer:
        started = time.perf_counter()
        answer = await ask_one(item)
        return replace(answer, latency_s=time.perf_counter() - started)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(timed(item)) for item in items]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class Failures:
    """Counts requests without a reply by reason, and logs each reason when it is first met."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def answer(self, request: Request, reason: str, detail: object) -> Answer:
        """Note a failure by a short word for its reason, and give the answer that stands for it."""
        if not self.counts[reason]:
            logger.warning(
                "request %s to %s failed (%s; logged once): %s",
                request.key, request.model, reason, hide_secrets(str(detail)),
            )  # fmt: skip
        self.counts[reason] += 1
        return Answer(verdict=Verdict.FAILED, key=request.key)

    def described(self) -> dict[str, int]:
        """The counts, as `describe` of a backend shows them."""
        return {f"failed_{reason}": count for reason, count in self.counts.items()}
