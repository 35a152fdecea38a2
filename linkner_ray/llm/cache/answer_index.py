"""The answers of one model by key: a database on the node, made from an answer cache's files.

The files are the truth. The database is filled from them once on each node, by the process that
comes first, and all processes of the node look answers up in it. So a process holds next to nothing
of an answer cache in its own memory, and a node reads each file once.
"""

import fcntl
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import pyarrow as pa

from linkner_ray.llm.cache.answer_rows import AnswerRows, BrokenRowError, PackedAnswers, key_bytes
from linkner_ray.llm.prompts import Answer

VERSION = 1
"""Of the database; one of another version is made anew."""

_MARK = 0x4C4E4B52
"""`application_id` of our databases."""

_UNUSED_DAYS = 30
"""After so many days without a change or a new process a database is removed."""

_LOCK = ".lock"

_KEYS_A_QUERY = 500

_MAX_LOG_BYTES = 2**26
"""Of the write-ahead log after it went into the database."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, version TEXT, answers INT, "
    "counter TEXT, problem TEXT)",
    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID",
)


class IndexedFile(NamedTuple):
    """A file that the database knows."""

    version: str
    """What tells it from others of its name."""

    counter: str
    """What counts it if it is not read."""

    problem: str
    """Why it is not read; empty if it is."""


class BrokenIndexError(OSError):
    """A database that is not what was written."""


class AnswerIndex:
    """A database of answers; the first answer to a key is the one that stays.

    Used by one thread at a time. A file's answers are there with its name or not at all, even if
    the process that takes them over is killed.
    """

    def __init__(self, url: str, *, model: str, classes: Sequence[str]) -> None:
        """Open the database of an answer cache on this node; an empty one if there is none.

        Args:
            url: Folder of the answer cache, the same for every process.
            model: Whose answers it holds.
            classes: `LabelSet.classes`; answers about others are left out.

        Raises:
            OSError: If it cannot be opened.
        """
        self._rows = AnswerRows(classes)
        about = json.dumps([url, model, list(classes)]).encode()
        digest = hashlib.blake2b(about, digest_size=16).hexdigest()
        folder = _node_folder()
        _remove_unused(folder)
        self.path = folder / f"answers-{digest}.sqlite"
        with self._locked():
            self._open()

    def __len__(self) -> int:
        with self._checked():
            [count] = self._connection.execute("SELECT total(answers) FROM files").fetchone()
        return int(count)

    def files(self) -> dict[str, IndexedFile]:
        """The files that were taken over or refused, by name."""
        query = "SELECT name, version, counter, problem FROM files"
        with self._checked():
            rows = self._connection.execute(query).fetchall()
        return {name: IndexedFile(*file) for name, *file in rows}

    def find(self, keys: Collection[str]) -> dict[str, Answer]:
        """The answers there are, by key; source `cache`.

        Raises:
            BrokenIndexError: If the database is damaged.
        """
        names = {key_bytes(key): key for key in keys}
        wanted = list(names)
        found = {}
        with self._checked():
            for first in range(0, len(wanted), _KEYS_A_QUERY):
                part = wanted[first : first + _KEYS_A_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value FROM answers WHERE key IN ({marks})"  # noqa: S608
                for key, value in self._connection.execute(query, part):
                    found[names[key]] = self._rows.unpack(names[key], value)
        return found

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process changes the database meanwhile."""
        with self._locked():
            if self._is_replaced():
                self._connection.close()
                self._open()
            yield

    def pack(self, tables: Iterable[pa.Table]) -> PackedAnswers:
        """Content of a file, schema `ENTRIES`, as `add_files` takes it."""
        return PackedAnswers.of([self._rows.pack(table) for table in tables])

    def add_files(self, files: Mapping[str, tuple[str, PackedAnswers]]) -> None:
        """Take over files in one transaction; for use in `alone`.

        Keys are spread as digests are, so to add files one by one would write every page again for
        each of them.

        Args:
            files: Version and answers of the model, by name, in the order in which they count.
        """
        if not files:
            return
        answers = PackedAnswers.of([packed for _, packed in files.values()])
        with self._transaction():
            added = self._connection.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?)", answers.rows()
            ).rowcount
            for name, (version, _) in files.items():
                self._note(name, version, max(0, added), "", "")
                added = 0  # counted with the first
        pa.default_memory_pool().release_unused()

    def add_problem(self, name: str, version: str, counter: str, problem: str) -> None:
        """Remember a file that is not read; for use in `alone`."""
        with self._transaction():
            self._note(name, version, 0, counter, problem)

    def clear(self) -> None:
        """Begin anew with an empty database; for use in `alone`."""
        self._connection.close()
        self._remove()
        self._open()

    def replace(self) -> None:
        """Begin anew, unless another process did since this one opened the database."""
        with self._locked():
            is_replaced = self._is_replaced()
            self._connection.close()
            if not is_replaced:
                self._remove()
            self._open()

    def _note(self, *row: str | int) -> None:
        self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._checked():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    def _open(self) -> None:
        """Connect; a database that is not ours, or damaged, is made anew."""
        try:
            with self._checked():
                self._connect()
        except BrokenIndexError:
            self._connection.close()
            self._remove()
            with self._checked():
                self._connect()
        self._inode = self.path.stat().st_ino

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self.path, timeout=600, isolation_level=None, check_same_thread=False
        )
        ask = self._connection.execute
        [mark], [version] = ask("PRAGMA application_id"), ask("PRAGMA user_version")
        [count] = ask("SELECT count(*) FROM sqlite_master").fetchone()
        if count and (*mark, *version) != (_MARK, VERSION):
            raise sqlite3.DatabaseError("it has another mark or version")
        if not count:
            ask("PRAGMA journal_mode = WAL")
            ask(f"PRAGMA application_id = {_MARK}")
            ask(f"PRAGMA user_version = {VERSION}")
        ask("PRAGMA synchronous = NORMAL")
        ask(f"PRAGMA journal_size_limit = {_MAX_LOG_BYTES}")
        for table in _TABLES:
            ask(table)

    def _remove(self) -> None:
        _remove_database(self.path)

    def _is_replaced(self) -> bool:
        return not self.path.exists() or self.path.stat().st_ino != self._inode

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the database, which the system frees when the process ends."""
        path = self.path.with_suffix(_LOCK)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.utime(path)
            yield

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Tell a database that is damaged from a disk that fails or is full."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(
                f"{self.path}: {error}; its folder needs to be writable, local, and have room; "
                "TMPDIR names another"
            ) from error
        except (sqlite3.DatabaseError, BrokenRowError) as error:
            raise BrokenIndexError(f"{self.path}: {error}") from error


def _node_folder() -> Path:
    """Folder of this user's databases on this node."""
    folder = Path(gettempdir()) / f"linkner-answers-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set TMPDIR to another folder")
    return folder


def _remove_unused(folder: Path) -> None:
    """Remove databases that no process has used for long; a lock stays, which is empty."""
    latest = time.time() - _UNUSED_DAYS * 86_400
    for lock in folder.glob(f"answers-*{_LOCK}"):
        if lock.stat().st_mtime < latest:
            _remove_database(lock.with_suffix(".sqlite"))


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
