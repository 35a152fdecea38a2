"""What `benchmarks.answer_cache` compares: the cache, a keyed SQLite table, what they keep."""

import json
import sqlite3
import struct
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from linkner_ray.llm.cache.answer_cache import AnswerCache
from linkner_ray.llm.cache.files import Entry
from linkner_ray.llm.prompts import Answer, Verdict

CLASSES = ("O", "PER", "ORG", "LOC", "MISC")
MODEL = "benchmark"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

_PROBS = struct.Struct(f"<{len(CLASSES)}f")


class Store(Protocol):
    """Keeps the first answer to each key."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Keep answers; when this returns they are on the disk."""
        ...

    def find(self, keys: Collection[str]) -> dict[str, Answer]:
        """Answers that are known, by key."""
        ...

    def refresh(self) -> None:
        """Take note of what others wrote."""
        ...

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Free what is held."""
        ...


class CacheStore(AnswerCache):
    """The answer cache; a batch is a file that is synced and then linked to its name."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), model=MODEL, classes=CLASSES)

    def close(self) -> None:
        """Nothing is open."""


class SqliteStore:
    """A table by key; a batch is a transaction that is synced when it ends (`synchronous=FULL`)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(folder / "answers.db", timeout=60)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, verdict TEXT, label TEXT, "
            "probs BLOB, model TEXT, revision TEXT, prompt_tokens INTEGER, latency_s REAL, "
            "time TEXT) WITHOUT ROWID"
        )

    def add(self, entries: Sequence[Entry]) -> None:
        """Insert what is new in one transaction."""
        rows = [
            (
                e.answer.key, e.answer.verdict.value, e.answer.label,
                None if e.answer.probs is None else _PROBS.pack(*e.answer.probs),
                e.model, e.revision, e.answer.prompt_tokens, e.answer.latency_s,
                e.time.isoformat(),
            )
            for e in entries
        ]  # fmt: skip
        with self._connection:
            self._connection.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?,?,?,?,?,?,?,?,?)", rows
            )

    def find(self, keys: Collection[str]) -> dict[str, Answer]:
        """Select the keys, all at once."""
        rows = self._connection.execute(
            "SELECT key, verdict, label, probs, prompt_tokens FROM answers "
            "WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keys)),),
        )
        return {
            key: Answer(
                verdict=Verdict(verdict),
                label=label,
                probs=None if probs is None else _PROBS.unpack(probs),
                key=key,
                source="cache",
                prompt_tokens=prompt_tokens,
            )
            for key, verdict, label, probs, prompt_tokens in rows
        }

    def refresh(self) -> None:
        """Every SELECT sees what was committed before it."""

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the connection; the last one moves the log into the database."""
        self._connection.close()


STORES: dict[str, type[CacheStore] | type[SqliteStore]] = {
    "cache": CacheStore,
    "sqlite": SqliteStore,
}


def key_of(number: int) -> str:
    """Name of a request; the numbers are spread as digests are."""
    spread = (number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128  # odd, so each number has one
    return f"k1:{spread:032x}"


def make_entries(numbers: range, *, writer: str = "first") -> list[Entry]:
    """Answers with probabilities, the same for the same number and writer.

    Args:
        numbers: Of the requests.
        writer: Another one gives other probabilities to the same requests.
    """
    rng = np.random.default_rng([numbers.start, *writer.encode()])
    weights = rng.dirichlet(np.ones(len(CLASSES)), len(numbers)).astype(np.float32)
    return [
        Entry(
            answer=_answer(number, row),
            model=MODEL,
            revision="folder-0123456789abcdef",
            time=NOON,
        )
        for number, row in zip(numbers, weights.tolist(), strict=True)
    ]


def batches(total: int, size: int) -> Iterator[range]:
    """The numbers of each batch."""
    return (range(first, min(first + size, total)) for first in range(0, total, size))


def _answer(number: int, probs: Sequence[float]) -> Answer:
    best = max(range(len(probs)), key=probs.__getitem__)
    return Answer(
        verdict=Verdict.LABEL if best else Verdict.NON_ENTITY,
        label=CLASSES[best] if best else None,
        probs=tuple(probs),
        key=key_of(number),
        prompt_tokens=200 + number % 100,
        latency_s=0.25,
    )
