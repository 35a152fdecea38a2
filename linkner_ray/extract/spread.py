"""Pieces of work over part files on the workers of a Ray, as a Ray Data job."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray.data
from ray import cloudpickle

from linkner_ray.errors import LinknerError
from linkner_ray.extract.pipeline import batches_of
from linkner_ray.extract.ray_start import start_ray
from linkner_ray.runs.part_work import Spread, is_much, spread_here

P = TypeVar("P")
R = TypeVar("R")


def choose_spread(num_files: int) -> Spread:
    """The workers of a Ray, which is started if need be, for many files; else this process."""
    if not is_much(num_files):
        return spread_here
    start_ray()
    return spread_on_ray


def spread_on_ray(work: Callable[[P], R], pieces: Sequence[P], /) -> Iterator[R]:
    """Do the work on the workers of the Ray that this process has, a piece a task.

    Raises:
        LinknerError: What the work raised.
    """
    rows = [
        pa.table({"place": [place], "content": [_pack(piece)]})
        for place, piece in enumerate(pieces)
    ]
    if not rows:
        return
    done = ray.data.from_arrow(rows).map_batches(
        partial(_do, work), batch_format="pyarrow", batch_size=None, num_cpus=1
    )
    results: dict[int, Any] = {}
    next_place = 0
    for batch in batches_of(done):
        for row in batch.to_pylist():
            results[row["place"]] = cloudpickle.loads(row["content"])
        while next_place in results:
            result = results.pop(next_place)
            if isinstance(result, LinknerError):
                raise result
            yield result
            next_place += 1


def _do(work: Callable[[Any], Any], batch: pa.Table) -> pa.Table:
    pieces = map(cloudpickle.loads, batch["content"].to_pylist())
    found = [_pack(_try(work, piece)) for piece in pieces]
    return pa.table({"place": batch["place"], "content": pa.array(found, pa.binary())})


def _try(work: Callable[[Any], Any], piece: object) -> object:
    """The result, or an error of ours: Ray would bring it back as text."""
    try:
        return work(piece)
    except LinknerError as error:
        return error


def _pack(value: object) -> bytes:
    packed: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return packed
