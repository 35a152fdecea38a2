"""Where in a run's files a row lies, found by a name of it: in little memory, by many at once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.errors import ContractError

_MAX_SHORT = 2**32

_DIGEST_DIGITS = 32


class Place(NamedTuple):
    """A row of one of the files."""

    file: int
    """Index of the file."""

    row: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowIndex:
    """Sorted names of rows; arrays alone, so that processes of a machine can share them.

    Only 64 bits of a name's digest are kept, so a reader of the row compares the whole name. Rows
    of the same name are found in the order of the files.
    """

    words: NDArray[np.uint64]
    """Of each row, sorted. Shape (N,)."""

    positions: NDArray[np.unsignedinteger]
    """Row in all files one after the other. Shape (N,)."""

    starts: NDArray[np.int64]
    """Position of the first row of each file, then the number of all rows. Shape (F + 1,)."""

    @classmethod
    def of(cls, words_of_files: Sequence[NDArray[np.uint64]]) -> "RowIndex":
        """Sort the words of the rows of several files."""
        starts = np.fromiter(accumulate((len(w) for w in words_of_files), initial=0), np.int64)
        words = np.concatenate([*words_of_files, np.zeros(0, np.uint64)])
        order = np.argsort(words, kind="stable")
        kind = np.uint32 if len(words) < _MAX_SHORT else np.uint64
        return cls(words=words[order], positions=order.astype(kind), starts=starts)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def num_bytes(self) -> int:
        """Memory of the arrays."""
        return int(self.words.nbytes + self.positions.nbytes + self.starts.nbytes)

    def find(self, words: NDArray[np.uint64]) -> list[tuple[Place, ...]]:
        """The rows that may have each of the given names; mostly one or none."""
        left = np.searchsorted(self.words, words, side="left").tolist()
        right = np.searchsorted(self.words, words, side="right").tolist()
        return [
            tuple(self.place(int(p)) for p in self.positions[first:end].tolist())
            for first, end in zip(left, right, strict=True)
        ]

    def place(self, position: int) -> Place:
        """The file and row of a position."""
        file = int(np.searchsorted(self.starts, position, side="right")) - 1
        return Place(file, position - int(self.starts[file]))


def document_digest(text: str) -> str:
    """Name of a text: 32 hexadecimal digits, a digest of its UTF-8 bytes.

    Wide enough that two texts of a crawl do not share a name, nor can be made to: an incremental
    run reuses what is known of a text by its name alone.
    """
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_DIGITS // 2).hexdigest()


def digest_words(digests: pa.ChunkedArray) -> NDArray[np.uint64]:
    """The first 64 bits of names by `document_digest`, without a loop over them. Shape (N,)."""
    column = digests.combine_chunks()
    if not len(column):
        return np.zeros(0, np.uint64)
    if set(pc.unique(pc.binary_length(column)).to_pylist()) != {_DIGEST_DIGITS}:
        raise ContractError(f"a document digest has other than {_DIGEST_DIGITS} digits")
    first = column.offset * _DIGEST_DIGITS
    digits = column.buffers()[2][first : first + len(column) * _DIGEST_DIGITS]
    halves = np.frombuffer(bytes.fromhex(digits.to_pybytes().decode("ascii")), ">u8")
    return halves[::2].astype(np.uint64)


def name_words(names: pa.ChunkedArray) -> NDArray[np.uint64]:
    """64 bits of a digest of any strings. Shape (N,)."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8) for name in names.to_pylist())
    return np.array([int.from_bytes(digest.digest()) for digest in digests], np.uint64)
