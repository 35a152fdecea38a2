"""Answers as arrays: a key of 16 bytes and a row of 12 bytes and 4 more for each class."""

import binascii
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.llm.cache.files import STORED_VERDICTS
from linkner_ray.llm.prompts import Answer, Verdict
from linkner_ray.schemas import list_offsets

KEY = np.dtype("S16")
"""Digest of a request. numpy leaves out zero bytes at its end where it makes `bytes` of one, but
not where it compares or sorts them."""

PACKED_COLUMNS = ("key", "verdict", "label", "probs", "model", "prompt_tokens")
"""Columns of `ENTRIES` that are packed."""

_UNKNOWN = -1
_DIGITS = 32
_EMPTY_CHECKSUM = 1  # not 0, so that a row of zeros is found out


class AnswerArrays(NamedTuple):
    """Answers of one model about one list of classes."""

    keys: NDArray[np.bytes_]
    """Type `KEY`. Shape (N,)."""

    rows: NDArray[np.void]
    """Type `AnswerRows.dtype`. Shape (N,)."""

    @property
    def num_bytes(self) -> int:
        """Memory that they take."""
        return int(self.keys.nbytes + self.rows.nbytes)

    @classmethod
    def none(cls, dtype: "np.dtype[np.void]") -> "AnswerArrays":
        """No answers, with rows of a type."""
        return cls(np.empty(0, KEY), np.empty(0, dtype))

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "AnswerArrays":
        """Some of them, by a mask or by their places."""
        return AnswerArrays(self.keys[chosen], self.rows[chosen])


def key_array(keys: Sequence[str]) -> NDArray[np.bytes_]:
    """The digests in the names of requests. Shape (N,)."""
    digits = "".join(key[-_DIGITS:] for key in keys)
    return np.frombuffer(bytes.fromhex(digits), KEY)


def key_column(keys: pa.ChunkedArray) -> NDArray[np.bytes_]:
    """As `key_array`, of a column of strings."""
    digits = pc.binary_slice(keys.cast(pa.binary()), -_DIGITS).combine_chunks()
    if not len(digits):
        return np.empty(0, KEY)
    return np.frombuffer(binascii.unhexlify(digits.buffers()[2][: len(digits) * _DIGITS]), KEY)


def sort_keys(keys: NDArray[np.bytes_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Order keys; rows of one key stay as they come.

    Returns:
        Rows in order, and whether each of these is the first of its key. Shapes (N,).
    """
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = keys[1:] != keys[:-1]
    return order, is_first


def first_answers(parts: Sequence[AnswerArrays]) -> AnswerArrays:
    """The first answer to each key, by key, of at least one part."""
    if len(parts) == 1:
        answers = parts[0]
    else:
        answers = AnswerArrays(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order, is_first = sort_keys(answers.keys)
    return answers.where(order[is_first])


class AnswerRows:
    """Makes arrays of answers about one list of classes, and answers of arrays."""

    def __init__(self, classes: Sequence[str]) -> None:
        """Take the classes, non-entity first; C is their number."""
        self._classes = tuple(classes)
        self.dtype = np.dtype(
            [
                ("checksum", "<u4"),
                ("tokens", "<i4"),
                ("label", "<u2"),
                ("verdict", "u1"),
                ("has_probs", "u1"),
                ("probs", "<f4", (len(classes),)),
            ]
        )

    def pack(self, entries: pa.Table, model: str) -> AnswerArrays:
        """The answers of a model, in the order of the table, without those about other classes."""
        verdicts = pa.array([verdict.value for verdict in STORED_VERDICTS])
        labels = pa.array(self._classes[1:], pa.string())
        rows = np.zeros(entries.num_rows, self.dtype)
        rows["tokens"] = _numbers(entries["prompt_tokens"])
        rows["verdict"] = _numbers(pc.index_in(entries["verdict"], verdicts))
        rows["label"] = 1 + _numbers(pc.index_in(entries["label"], labels))
        lists = entries["probs"].combine_chunks()
        rows["has_probs"] = lists.is_valid().to_numpy(zero_copy_only=False)
        is_ours = self._set_probs(rows, lists)
        names_a_label = rows["verdict"] == STORED_VERDICTS.index(Verdict.LABEL)
        is_ours &= (rows["label"] > 0) == names_a_label
        is_ours &= pc.equal(entries["model"], model).to_numpy()
        keys = key_column(entries["key"])
        rows["checksum"] = checksums(keys, rows)
        answers = AnswerArrays(keys, rows)
        return answers if is_ours.all() else answers.where(is_ours)

    def unpack(self, keys: Sequence[str], rows: NDArray[np.void]) -> dict[str, Answer]:
        """Answers by key; source `cache`."""
        names = ("tokens", "label", "verdict", "has_probs", "probs")
        columns = [rows[name].tolist() for name in names]
        return {
            key: Answer(
                verdict=STORED_VERDICTS[verdict],
                label=self._classes[label] if label else None,
                probs=tuple(probs) if has_probs else None,
                key=key,
                source="cache",
                prompt_tokens=None if tokens == _UNKNOWN else tokens,
            )
            for key, tokens, label, verdict, has_probs, probs in zip(keys, *columns, strict=True)
        }

    def _set_probs(self, rows: NDArray[np.void], lists: pa.ListArray) -> NDArray[np.bool_]:
        """Put probabilities into rows; whether a row has each class once, or none. Shape (N,)."""
        num_classes = len(self._classes)
        is_ours = lists.is_null().to_numpy(zero_copy_only=False).copy()
        has_as_many = np.diff(list_offsets(lists)) == num_classes
        if not has_as_many.any():
            return is_ours
        if not has_as_many.all():
            lists = lists.filter(pa.array(has_as_many))
        flat = lists.flatten()
        names = flat.field("class").dictionary_encode()
        number_of = _numbers(pc.index_in(names.dictionary, pa.array(self._classes)))
        numbers = number_of.astype(np.int32)[names.indices.to_numpy()].reshape(-1, num_classes)
        given = flat.field("prob").to_numpy().reshape(-1, num_classes)
        left = np.flatnonzero(has_as_many)
        while len(left):  # once for each order of classes that occurs: few in one file
            order = numbers[0]
            has_order = (numbers == order).all(axis=1)
            if sorted(order) == list(range(num_classes)):
                same = left[has_order]
                rows["probs"][same] = given[has_order][:, np.argsort(order)]
                is_ours[same] = True
            left, numbers, given = left[~has_order], numbers[~has_order], given[~has_order]
        return is_ours


def checksums(keys: NDArray[np.bytes_], rows: NDArray[np.void]) -> NDArray[np.uint32]:
    """What the field `checksum` of rows has to be; a single changed word changes it. Shape (N,)."""
    words = rows.view("<u4").reshape(len(rows), rows.dtype.itemsize // 4)[:, 1:]  # (N, 2 + C)
    factors = np.arange(1, 5 + words.shape[1], dtype=np.uint32) * np.uint32(0x9E3779B2) + 1  # odd
    digest = keys.view("<u4").reshape(len(keys), 4)
    return digest @ factors[:4] + words @ factors[4:] + np.uint32(_EMPTY_CHECKSUM)


def _numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Integers, -1 where there is none. Shape (N,)."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    filled = pc.fill_null(column, _UNKNOWN)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)
