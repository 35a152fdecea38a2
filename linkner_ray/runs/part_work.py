"""Work over the part files of a run, piece by piece, here or on the workers of a Ray."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import pyarrow as pa

P = TypeVar("P")
R = TypeVar("R")

PIECE_FILES = 128
"""Files of a piece: some seconds of work, so that sending it costs nothing beside it."""

FEW_PIECES = 8
"""Pieces that one process does in less time than a Ray takes to start."""


class Spread(Protocol):
    """Who does a piece of work."""

    def __call__(self, work: Callable[[P], R], pieces: Sequence[P], /) -> Iterable[R]:
        """Do the work on each piece; results come in the order of the pieces."""


def spread_here(work: Callable[[P], R], pieces: Sequence[P], /) -> Iterator[R]:
    """Do the work in this process, piece after piece."""
    return map(work, pieces)


def is_much(num_files: int) -> bool:
    """Whether work over so many files is worth several processes."""
    return num_files > FEW_PIECES * PIECE_FILES


def pieces_of(files: Any) -> list[Any]:  # noqa: ANN401 - a table or a sequence
    """Files in pieces: slices of a table of files, or of a sequence of names."""
    if isinstance(files, pa.Table):
        return [
            files.slice(first, PIECE_FILES).combine_chunks()
            for first in range(0, files.num_rows, PIECE_FILES)
        ]
    return [files[first : first + PIECE_FILES] for first in range(0, len(files), PIECE_FILES)]
