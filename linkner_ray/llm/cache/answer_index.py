"""The answers of one model by key: an index on the node, made from an answer cache's files.

The files are the truth. The index is made of them once on each node, by the process that comes
first, and mapped into the memory of all processes of the node. So none holds answers in memory of
its own, and a node reads each file once.

The index is a few segments, each sorted by key. What is new becomes another one, which takes the
last ones in while they are not larger. So there are never many of them, and an answer is written
again about as often as the number of answers can be halved.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from linkner_ray.llm.cache.answer_rows import AnswerArrays, AnswerRows, first_answers, key_array
from linkner_ray.llm.cache.segment import BrokenIndexError, Segment, check_is_ours, write_segment
from linkner_ray.llm.prompts import Answer

logger = logging.getLogger(__name__)

MAX_SEGMENT_BYTES = 2**26
"""A segment that is larger takes no other in; as much is in memory while one is written."""

_VERSION = 2
"""Of the files; indexes of other versions have other names."""

_UNUSED_DAYS = 30
"""After so many days without a change or a new process an index is removed."""

_LOCK = ".lock"
_SEGMENT = re.compile(r"answers-[0-9a-f]{32}-\d{8}-\d{8}\.segment")


class IndexedFile(NamedTuple):
    """A file that the index knows."""

    version: str
    """What tells it from others of its name."""

    counter: str = ""
    """What counts it if it is not read."""

    problem: str = ""
    """Why it is not read; empty if it is."""


class AnswerIndex:
    """Answers by key; the first answer to a key is the one that stays.

    Used by one thread at a time. A file's answers are there with its name or not at all, even if
    the process that takes them over is killed.
    """

    def __init__(self, url: str, *, model: str, classes: Sequence[str]) -> None:
        """Find the index of an answer cache on this node; an empty one if there is none.

        Answers of other models, or about other classes, are left out.

        Raises:
            OSError: If its folder cannot be used.
        """
        self._model = model
        self._rows = AnswerRows(classes)
        about = json.dumps([_VERSION, url, model, list(classes)]).encode()
        digest = hashlib.blake2b(about, digest_size=16).hexdigest()
        self._folder = _node_folder()
        self._name = f"answers-{digest}"
        self._lock = self._folder / f"{self._name}{_LOCK}"
        self._lock.touch()
        self._segments: dict[_Place, Segment] = {}
        _remove_unused(self._folder)

    def __len__(self) -> int:
        return sum(map(len, self._segments.values()))

    def refresh(self) -> None:
        """Take note of what other processes changed."""
        while True:
            self._folder.mkdir(mode=0o700, exist_ok=True)  # the system may clean TMPDIR meanwhile
            places = _current(self._list())
            try:
                self._segments = {
                    place: self._segments.get(place)
                    or Segment(self._folder / place.name, self._rows.dtype)
                    for place in places
                }
            except FileNotFoundError:  # another process took it in meanwhile
                continue
            except BrokenIndexError as error:
                logger.warning("%s; it is made anew", error)
                _remove(error.path)
                continue
            return

    def files(self) -> dict[str, IndexedFile]:
        """The files that were taken over or refused, by name."""
        return {
            name: IndexedFile(*file)
            for segment in self._segments.values()
            for name, file in segment.notes.items()
        }

    def find(self, keys: Collection[str]) -> dict[str, Answer]:
        """The answers there are, by key; source `cache`.

        Raises:
            BrokenIndexError: If a segment is damaged.
        """
        names = list(keys)
        wanted = key_array(names)
        answers: dict[str, Answer] = {}
        for segment in self._segments.values():
            found, rows = segment.find(wanted)
            answers |= self._rows.unpack([names[place] for place in found], rows)
        return answers

    def pack(self, tables: Iterable[pa.Table]) -> list[AnswerArrays]:
        """Content of a file, schema `ENTRIES`, as `add` takes it."""
        return [self._rows.pack(table, self._model) for table in tables]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process changes the index meanwhile; the system frees the lock of a dead one."""
        with self._lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._lock.touch()
            yield

    def add(self, files: Mapping[str, IndexedFile], answers: Sequence[AnswerArrays]) -> None:
        """Take files over, all or none; for use in `alone`, after `refresh`.

        Files that are not read are noted, too; answers come in the order in which they count.
        """
        if not files:
            return
        new = first_answers([AnswerArrays.none(self._rows.dtype), *answers])
        is_known = np.zeros(len(new.keys), dtype=bool)
        for segment in self._segments.values():
            is_known |= segment.has(new.keys)
        if is_known.any():
            new = new.where(~is_known)
        count, size = len(new.keys), new.num_bytes
        taken: list[Segment] = []
        for segment in reversed(self._segments.values()):
            size += segment.answers.num_bytes
            if len(segment) > count or size > MAX_SEGMENT_BYTES:
                break
            count += len(segment)
            taken.insert(0, segment)
        notes: dict[str, Sequence[str]] = {}
        for segment in taken:
            notes |= segment.notes
        last = 1 + max((place.last for place in self._segments), default=-1)
        first = list(self._segments)[-len(taken)].first if taken else last
        self._write(first, last, {**notes, **files}, [*(s.answers for s in taken), new])

    def clear(self) -> None:
        """Remove all segments; for use in `alone`."""
        for place in self._list():
            _remove(self._folder / place.name)
        self._segments = {}

    def replace(self, broken: Path) -> None:
        """Remove all segments, unless another process replaced this one meanwhile."""
        held = {place for place in self._segments if place.name == broken.name}
        with self.alone():
            self.refresh()
            if held <= self._segments.keys():
                self.clear()

    def _write(
        self,
        first: int,
        last: int,
        notes: Mapping[str, Sequence[str]],
        answers: Sequence[AnswerArrays],
    ) -> None:
        """Write a segment, and remove those whose answers are in it."""
        path = self._folder / f"{self._name}-{first:08d}-{last:08d}.segment"
        try:
            write_segment(
                path, notes, first_answers(answers), self._folder / f"{self._name}-new.segment"
            )
        except FileExistsError:
            raise
        except OSError as error:
            raise OSError(
                f"{path}: {error}; its folder needs to be writable, local, and have room; TMPDIR "
                "names another"
            ) from error
        for place in self._list():
            if place.name != path.name and first <= place.first and place.last <= last:
                _remove(self._folder / place.name)
        pa.default_memory_pool().release_unused()
        self.refresh()

    def _list(self) -> list["_Place"]:
        """All segments of this index, in order."""
        with os.scandir(self._folder) as entries:
            found = [
                _Place(entry.name, entry.inode())
                for entry in entries
                if entry.name.startswith(self._name)
                and _SEGMENT.fullmatch(entry.name)
                and entry.is_file(follow_symlinks=False)
            ]
        return sorted(found, key=lambda place: (place.first, -place.last))


class _Place(NamedTuple):
    """A segment's file."""

    name: str
    inode: int

    @property
    def first(self) -> int:
        """Number of the first segment that went into this one."""
        return int(self.name.split("-")[2])

    @property
    def last(self) -> int:
        """Number of the last one, which no other segment has."""
        return int(self.name.split("-")[3].partition(".")[0])


def _current(places: Sequence[_Place]) -> list[_Place]:
    """Those that are not part of another, which a process that dies at the wrong moment leaves."""
    kept: list[_Place] = []
    for place in places:
        if not kept or place.last > kept[-1].last:
            kept.append(place)
    return kept


def _node_folder() -> Path:
    """Folder of this user's indexes on this node."""
    folder = Path(gettempdir()) / f"linkner-answers-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set TMPDIR to another folder")
    return folder


def _remove_unused(folder: Path) -> None:
    """Remove indexes that no process has used for long; a lock stays, which is empty."""
    latest = time.time() - _UNUSED_DAYS * 86_400
    for lock in folder.glob(f"answers-*{_LOCK}"):
        if lock.stat().st_mtime < latest:
            for path in folder.glob(f"{lock.stem}-*.segment"):
                with suppress(FileExistsError):  # not ours
                    _remove(path)


def _remove(path: Path) -> None:
    check_is_ours(path)
    path.unlink(missing_ok=True)
