"""A file of answers on the node, sorted by key and mapped into memory.

A head of `_HEAD` is followed by notes in JSON, the keys, and the rows, each array in one piece. The
file is written once, under a hidden name, and never changed.
"""

import json
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from linkner_ray.llm.cache.answer_rows import KEY, AnswerArrays, checksums

_MARK = b"linkner answers\n"
_HEAD = struct.Struct("<16sQQQ")
"""The mark, bytes of the notes, number of answers, bytes of a row."""


class BrokenIndexError(Exception):
    """A file that this program wrote and that is no longer what was written."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class Segment:
    """Answers by key, and notes; in memory is only what the system keeps of the file."""

    def __init__(self, path: Path, dtype: np.dtype[np.void]) -> None:
        """Map a file.

        Raises:
            FileNotFoundError: If it is gone.
            FileExistsError: If it is not one of ours.
            BrokenIndexError: If it is ours, and broken.
        """
        check_is_ours(path)
        self.path = path
        with path.open("rb") as file:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                raise BrokenIndexError(path, "was cut short")
            _, note_bytes, count, row_bytes = _HEAD.unpack(head)
            first_key = _HEAD.size + note_bytes
            first_row = first_key + count * KEY.itemsize
            expected = first_row + count * row_bytes
            if row_bytes != dtype.itemsize or path.stat().st_size != expected:
                raise BrokenIndexError(path, "its size is not the one that was written")
            try:
                self.notes = json.loads(file.read(note_bytes))
            except ValueError as error:
                raise BrokenIndexError(path, f"its notes cannot be read: {error}") from error
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.answers = AnswerArrays(
            np.frombuffer(content, KEY, count, first_key),
            np.frombuffer(content, dtype, count, first_row),
        )

    def __len__(self) -> int:
        return len(self.answers.keys)

    def find(self, keys: NDArray[np.bytes_]) -> tuple[NDArray[np.intp], NDArray[np.void]]:
        """Which of some keys are here, and their rows.

        Raises:
            BrokenIndexError: If a row is not what was written.
        """
        places = np.searchsorted(self.answers.keys, keys)
        inside = np.flatnonzero(places < len(self))
        found = inside[self.answers.keys[places[inside]] == keys[inside]]
        rows = self.answers.rows[places[found]]
        if (checksums(keys[found], rows) != rows["checksum"]).any():
            raise BrokenIndexError(self.path, "a checksum is not that of its answer")
        return found, rows

    def has(self, keys: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Whether each key is here. Shape (N,)."""
        if not len(self):
            return np.zeros(len(keys), dtype=bool)
        places = np.searchsorted(self.answers.keys, keys)
        return self.answers.keys[np.minimum(places, len(self) - 1)] == keys


def write_segment(
    path: Path, notes: Mapping[str, object], answers: AnswerArrays, hidden: Path
) -> None:
    """Write answers, sorted by key, whole or not at all; until they are, the name is `hidden`.

    Raises:
        FileExistsError: If something else has one of these names.
        OSError: If it cannot be written.
    """
    content = json.dumps(notes).encode()
    for name in (path, hidden):
        check_is_ours(name)
    try:
        with hidden.open("wb") as file:
            rows = answers.rows
            file.write(_HEAD.pack(_MARK, len(content), len(rows), rows.dtype.itemsize))
            file.write(content)
            file.write(answers.keys.view(np.uint8).data)
            file.write(rows.view(np.uint8).data)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def check_is_ours(path: Path) -> None:
    """Refuse what lies at one of our names and does not begin with our mark.

    An empty file passes: a machine that loses power may leave one.

    Raises:
        FileExistsError: If that is so.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(len(_MARK))
    except FileNotFoundError:
        return
    if not _MARK.startswith(begins):
        raise FileExistsError(
            f"{path} has a name of our index of answers, but this program did not write it; move "
            "it away, or have TMPDIR name another folder"
        )
