"""An answer cache in front of another backend: only what is not kept yet is asked."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime

from linkner_ray.llm.backends.protocol import Backend
from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.files import Entry
from linkner_ray.llm.prompts import Answer, Request, Verdict

_KEPT = (Verdict.LABEL, Verdict.NON_ENTITY)
"""What is kept: an unreadable answer may come of how a server is set up, and mended there."""


def _now() -> datetime:
    return datetime.now(UTC)


class CacheBackend:
    """Answers from the answer cache, asks the rest once, and keeps what it was told.

    An answer is returned only after it is stored, and as it is stored. So a rerun gets the same
    answers from the cache, byte for byte, even where two actors asked one question at one time.
    """

    def __init__(
        self, backend: Backend, cache: AnswerCache, *, now: Callable[[], datetime] = _now
    ) -> None:
        self.symbols = backend.symbols
        self.decoding = backend.decoding
        self._backend = backend
        self._cache = cache
        self._now = now
        self._under_way: dict[str, Future[Answer]] = {}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer every request, in the order given; source `cache` where nothing was asked.

        What another thread is asking at this moment is waited for and not asked again.

        Raises:
            BackendError: If no further request can succeed, or the answer cache cannot be written.
        """
        keys = [request.key for request in requests]
        by_key = dict(zip(keys, requests, strict=True))
        found, mine, others = self._divide(by_key)
        if mine:
            found |= self._ask_new({key: by_key[key] for key in mine}, mine)
        for key, future in others.items():
            found[key] = replace(future.result(), source="cache")
        return [found[key] for key in keys]

    def describe(self) -> dict[str, str | int]:
        """What the other backend says, with hits and misses of the answer cache."""
        counts = self._counts + self._cache.counts
        return {**self._backend.describe(), **dict(sorted(counts.items()))}

    def close(self) -> None:
        """Close the other backend; the answer cache is whole at any time."""
        self._backend.close()

    def _find(self, keys: Collection[str]) -> dict[str, Answer]:
        """What is kept; earlier releases kept unreadable answers, too, which are asked again."""
        found = self._cache.find(keys)
        return {key: answer for key, answer in found.items() if answer.verdict in _KEPT}

    def _divide(
        self, by_key: Mapping[str, Request]
    ) -> tuple[dict[str, Answer], dict[str, Future[Answer]], dict[str, Future[Answer]]]:
        """Tell what is known, what this thread is to ask, and what another is asking."""
        with self._lock:
            found = self._find(by_key)
            missing = [key for key in by_key if key not in found]
            others = {key: self._under_way[key] for key in missing if key in self._under_way}
            mine: dict[str, Future[Answer]] = {
                key: Future() for key in missing if key not in others
            }
            self._under_way |= mine
            self._counts["cache_hits"] += len(found) + len(others)
            self._counts["cache_misses"] += len(mine)
        return found, mine, others

    def _ask_new(
        self, requests: Mapping[str, Request], futures: Mapping[str, Future[Answer]]
    ) -> dict[str, Answer]:
        """Ask, keep, and tell the threads that wait."""
        try:
            answers = self._answers(requests)
        except BaseException as error:
            for future in futures.values():
                future.set_exception(error)
            raise
        else:
            for key, future in futures.items():
                future.set_result(answers[key])
        finally:
            with self._lock:
                for key in futures:
                    del self._under_way[key]
        return answers

    def _answers(self, requests: Mapping[str, Request]) -> dict[str, Answer]:
        """Ask what no other process answered meanwhile; keep what can be read."""
        self._cache.refresh()
        answers = self._find(requests)
        asked = [request for key, request in requests.items() if key not in answers]
        with self._lock:
            self._counts["cache_misses"] -= len(answers)
            self._counts["cache_hits"] += len(answers)
        if not asked:
            return answers
        told = {answer.key: answer for answer in self._backend.ask(asked)}
        time = self._now()
        self._cache.add(
            Entry(answer=told[r.key], model=r.model, revision=r.revision, time=time)
            for r in asked
            if told[r.key].verdict in _KEPT
        )
        kept = self._find(told)
        for key, answer in told.items():
            answers[key] = replace(kept.get(key, answer), source="llm")
        return answers
