"""Ways to find answers by key on a node that `benchmarks.answer_index` compares.

Each is built from the same arrays, unsorted, and holds the same bytes: keys of 16, rows of 12 and 4
for each class. `lmdb` is left out where it is not installed: `pip install lmdb`.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from linkner_ray.llm.cache.answer_rows import AnswerArrays, first_answers, key_array
from linkner_ray.llm.cache.segment import Segment, write_segment

Find = Callable[[Sequence[str]], int]
"""Looks keys up and says how many are there, with their rows read."""

_SAFE = ("journal_mode = WAL", "synchronous = NORMAL")
_FAST = ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000", "page_size = 8192")


def build_sqlite(path: Path, answers: AnswerArrays, pragmas: Sequence[str] = _SAFE) -> None:
    """One transaction, by key, into a table WITHOUT ROWID."""
    connection = sqlite3.connect(path)
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE answers (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
    with connection:
        connection.executemany("INSERT INTO answers VALUES (?, ?)", _pairs(answers))
    connection.close()


def build_sqlite_fast(path: Path, answers: AnswerArrays) -> None:
    """Without a journal and without waiting for the disk."""
    build_sqlite(path, answers, _FAST)


def open_sqlite(path: Path, _dtype: "np.dtype[np.void]") -> Find:
    """Look up with one query."""
    connection = sqlite3.connect(path)

    def find(keys: Sequence[str]) -> int:
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, value FROM answers WHERE key IN ({marks})"  # noqa: S608
        return len(connection.execute(query, [bytes.fromhex(key[-32:]) for key in keys]).fetchall())

    return find


def build_lmdb(path: Path, answers: AnswerArrays) -> None:
    """One transaction, appended by key, without waiting for the disk."""
    import lmdb  # type: ignore[import-not-found]

    size = 4 * answers.num_bytes + 2**26
    environment = lmdb.open(str(path), map_size=size, subdir=False, sync=False)
    with environment, environment.begin(write=True) as transaction:
        transaction.cursor().putmulti(_pairs(answers), append=True)


def open_lmdb(path: Path, _dtype: "np.dtype[np.void]") -> Find:
    """Look up with a cursor."""
    import lmdb

    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False)

    def find(keys: Sequence[str]) -> int:
        with environment.begin() as transaction:
            return len(transaction.cursor().getmulti([bytes.fromhex(key[-32:]) for key in keys]))

    return find


def build_arrays(path: Path, answers: AnswerArrays) -> None:
    """Sorted arrays, as the product has them."""
    write_segment(path, {}, first_answers([answers]), path.with_suffix(".new"))


def open_arrays(path: Path, dtype: "np.dtype[np.void]") -> Find:
    """Map them, look up by bisection, and check the rows."""
    segment = Segment(path, dtype)

    def find(keys: Sequence[str]) -> int:
        return len(segment.find(key_array(keys))[1])

    return find


def _pairs(answers: AnswerArrays) -> Iterator[tuple[bytes, bytes]]:
    answers = first_answers([answers])
    for first in range(0, len(answers.keys), 65_536):
        part = answers.where(slice(first, first + 65_536))
        keys = part.keys.view("V16").tolist()
        yield from zip(keys, part.rows.view(f"V{part.rows.itemsize}").tolist(), strict=True)


STORES: dict[str, tuple[Any, Any]] = {
    "sqlite": (build_sqlite, open_sqlite),
    "sqlite fast": (build_sqlite_fast, open_sqlite),
    "lmdb": (build_lmdb, open_lmdb),
    "arrays": (build_arrays, open_arrays),
}
if find_spec("lmdb") is None:
    del STORES["lmdb"]
