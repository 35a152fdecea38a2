"""Work over the part files of a run, piece by piece, here or on the workers of a Ray."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

P = TypeVar("P")
R = TypeVar("R")

Read = Callable[[P], pa.Table]
Work = Callable[[P], R]

PIECE_FILES = 128
"""Files of a piece: some seconds of work, so that sending it costs nothing beside it."""

FEW_PIECES = 8
"""Pieces that one process does in less time than a Ray takes to start."""

BUCKET = "bucket"
"""Column that says to which bucket a row goes."""

THREADS = 32
"""Files of one process that a store is asked for at the same time."""


class Spread:
    """Who does pieces of work: this process, one piece after the other."""

    def each(self, work: Work[P, R], pieces: Sequence[P], /) -> Iterator[R]:
        """Do the work on each piece; results come in the order of the pieces."""
        return map(work, pieces)

    def by_bucket(
        self, read: Read[P], work: Work[pa.Table, R], pieces: Sequence[P], /
    ) -> Iterator[R]:
        """Read rows of each piece, then do the work on the rows of each bucket, of all pieces.

        Args:
            read: Gives a table with the column `BUCKET`, a number.
            work: Gets all rows of a bucket, in any order; they have to fit in memory.
            pieces: What is read.

        Yields:
            A result for each bucket that has rows, in any order.
        """
        with tempfile.TemporaryDirectory(prefix="linkner-") as folder:
            with ExitStack() as open_files:
                writers: dict[int, pa.RecordBatchFileWriter] = {}
                for number, rows in (part for piece in pieces for part in split(read(piece))):
                    if number not in writers:
                        writer = pa.ipc.new_file(Path(folder) / str(number), rows.schema)
                        writers[number] = open_files.enter_context(writer)
                    writers[number].write_table(rows)
            for number in writers:
                with pa.memory_map(str(Path(folder) / str(number))) as file:
                    yield work(pa.ipc.open_file(file).read_all())


HERE = Spread()


def split(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """The buckets that rows go to, each with its rows."""
    for number in pc.unique(rows[BUCKET]).to_pylist():
        yield number, rows.filter(pc.equal(rows[BUCKET], number))


def pieces_of(files: Any) -> list[Any]:  # noqa: ANN401 - a table or a sequence
    """Files in pieces: slices of a table of files, or of a sequence of names."""
    starts = range(0, len(files), PIECE_FILES)
    if isinstance(files, pa.Table):
        return [files.slice(first, PIECE_FILES).combine_chunks() for first in starts]
    return [files[first : first + PIECE_FILES] for first in starts]


def side_by_side(work: Work[P, R], items: Iterable[P]) -> list[R]:
    """Results of work that waits for a store, in the order of the items."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))
