"""Answers as rows of bytes: a key of 16 bytes and a value of 12 and 4 for each class."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.llm.cache.files import STORED_VERDICTS, key_words, sort_words
from linkner_ray.llm.prompts import Answer, Verdict
from linkner_ray.schemas import list_offsets

_UNKNOWN = -1
_CHECKSUM_BYTES = 4
_ROWS_AT_A_TIME = 65_536


class BrokenRowError(Exception):
    """A value whose checksum is not that of its key and content."""


def key_bytes(key: str) -> bytes:
    """The digest in the name of a request."""
    return bytes.fromhex(key[-32:])


class PackedAnswers(NamedTuple):
    """Answers as arrays, of which rows of bytes are made."""

    words: NDArray[np.uint64]
    """Of each key, see `key_words`. Shape (N, 2)."""

    values: NDArray[np.void]
    """What is known of each answer; its checksum is not set. Shape (N,)."""

    @property
    def num_bytes(self) -> int:
        """Memory that they take."""
        return int(self.words.nbytes + self.values.nbytes)

    @classmethod
    def of(cls, parts: Sequence["PackedAnswers"]) -> "PackedAnswers":
        """Several as one, in order."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """The first answer to each key, by key, so that neighbours lie beside each other."""
        order, is_first = sort_words(*self.words.T)
        chosen = order[is_first]
        for first in range(0, len(chosen), _ROWS_AT_A_TIME):
            part = chosen[first : first + _ROWS_AT_A_TIME]
            keys = self.words[part].astype(">u8").view("V16").ravel().tolist()
            values = self.values[part].view(f"V{self.values.itemsize}").tolist()
            for key, value in zip(keys, values, strict=True):
                yield key, _checksum(key, value) + value[_CHECKSUM_BYTES:]


def _checksum(key: bytes, value: bytes) -> bytes:
    return zlib.crc32(value[_CHECKSUM_BYTES:], zlib.crc32(key)).to_bytes(_CHECKSUM_BYTES, "little")


class AnswerRows:
    """Packs answers about one list of classes, and unpacks them."""

    def __init__(self, classes: Sequence[str]) -> None:
        """Take the classes, non-entity first; C is their number."""
        self._classes = tuple(classes)
        self._dtype = np.dtype(
            [
                ("checksum", "<u4"),
                ("tokens", "<i4"),
                ("label", "<u2"),
                ("verdict", "u1"),
                ("has_probs", "u1"),
                ("probs", "<f4", (len(classes),)),
            ]
        )
        self._struct = struct.Struct(f"<IiHBB{len(classes)}f")

    def pack(self, entries: pa.Table) -> "PackedAnswers":
        """Rows in the order of the table, without answers about other classes.

        Args:
            entries: Schema `ENTRIES`.
        """
        verdicts = pa.array([verdict.value for verdict in STORED_VERDICTS])
        labels = pa.array(self._classes[1:], pa.string())
        values = np.zeros(entries.num_rows, self._dtype)
        values["tokens"] = _numbers(entries["prompt_tokens"])
        values["verdict"] = _numbers(pc.index_in(entries["verdict"], verdicts))
        values["label"] = 1 + _numbers(pc.index_in(entries["label"], labels))
        lists = entries["probs"].combine_chunks()
        is_ours, values["probs"] = self._probs(lists)
        values["has_probs"] = lists.is_valid().to_numpy(zero_copy_only=False)
        names_a_label = values["verdict"] == STORED_VERDICTS.index(Verdict.LABEL)
        is_ours &= (values["label"] > 0) == names_a_label
        words = np.stack(key_words(entries["key"]), axis=1)
        return PackedAnswers(words[is_ours], values[is_ours])

    def unpack(self, key: str, value: bytes) -> Answer:
        """An answer; source `cache`.

        Raises:
            BrokenRowError: If the value is not one that was packed for this key.
        """
        if len(value) != self._struct.size:
            raise BrokenRowError(f"{key}: {len(value)} bytes, expected {self._struct.size}")
        _, tokens, label, verdict, has_probs, *probs = self._struct.unpack(value)
        if value[:_CHECKSUM_BYTES] != _checksum(key_bytes(key), value):
            raise BrokenRowError(f"{key}: its checksum is not that of its content")
        return Answer(
            verdict=STORED_VERDICTS[verdict],
            label=self._classes[label] if label else None,
            probs=tuple(probs) if has_probs else None,
            key=key,
            source="cache",
            prompt_tokens=None if tokens == _UNKNOWN else tokens,
        )

    def _probs(self, lists: pa.ListArray) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Whether a row has each class once or no probabilities, and these. Shapes (N,), (N, C)."""
        num_classes = len(self._classes)
        probs = np.zeros((len(lists), num_classes), np.float32)
        is_ours = lists.is_null().to_numpy(zero_copy_only=False).copy()
        offsets = list_offsets(lists)
        rows = np.flatnonzero(np.diff(offsets) == num_classes)
        if len(rows):
            flat = lists.flatten()
            names = flat.field("class").dictionary_encode()
            number_of = _numbers(pc.index_in(names.dictionary, pa.array(self._classes)))
            places = offsets[rows][:, None] + np.arange(num_classes)  # (R, C)
            numbers = number_of[_numbers(names.indices)][places]
            has_each_once = (np.sort(numbers) == np.arange(num_classes)).all(axis=1)
            rows, places, numbers = (
                rows[has_each_once],
                places[has_each_once],
                numbers[has_each_once],
            )
            given = flat.field("prob").to_numpy(zero_copy_only=False)
            probs[rows[:, None], numbers] = given[places]
            is_ours[rows] = True
        return is_ours, probs


def _numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Integers, -1 where there is none. Shape (N,)."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    filled = pc.fill_null(column, _UNKNOWN)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)
