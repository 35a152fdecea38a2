"""Work over part files on the workers of a Ray, as Ray Data jobs."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from linkner_ray.errors import LinknerError
from linkner_ray.logs.progress import track
from linkner_ray.runs.part_work import (
    BUCKET,
    FEW_PIECES,
    HERE,
    P,
    R,
    Read,
    Spread,
    Work,
    split,
)

_BUCKET_BLOCK_BYTES = 2**27
"""Of the rows that go into buckets; a run's own blocks are single units."""

_PART = pa.schema([(BUCKET, pa.int64()), ("content", pa.binary())])


class BySize(Spread):
    """Few pieces are done in this process, many on a Ray, which is started if need be."""

    def each(self, work: Work[P, R], pieces: Sequence[P], /) -> Iterator[R]:
        """See `Spread`."""
        return track(_spread(pieces).each(work, pieces), "parts", len(pieces))

    def by_bucket(
        self, read: Read[P], work: Work[pa.Table, R], pieces: Sequence[P], /
    ) -> Iterator[R]:
        """See `Spread`."""
        return _spread(pieces).by_bucket(read, work, pieces)


def _spread(pieces: Sequence[object]) -> Spread:
    if len(pieces) <= FEW_PIECES:
        return HERE
    from linkner_ray.extract.ray_start import start_ray

    start_ray()
    return OnRay()


class OnRay(Spread):
    """Work is done by the workers of the Ray that this process has, a piece or a bucket a task.

    A `LinknerError` that the work raises comes out as itself.
    """

    def each(self, work: Work[P, R], pieces: Sequence[P], /) -> Iterator[R]:
        """See `Spread`."""
        import ray.data

        from linkner_ray.extract.pipeline import batches_of

        if not pieces:
            return
        done = ray.data.from_arrow(_rows_of(pieces)).map_batches(
            partial(_do, work), batch_format="pyarrow", batch_size=None, num_cpus=1
        )
        results: dict[int, Any] = {}
        next_place = 0
        for batch in batches_of(done):
            for row in batch.to_pylist():
                results[row["place"]] = _unpack(row["content"])
            while next_place in results:
                yield _raise_if_error(results.pop(next_place))
                next_place += 1

    def by_bucket(
        self, read: Read[P], work: Work[pa.Table, R], pieces: Sequence[P], /
    ) -> Iterator[R]:
        """See `Spread`."""
        import ray.data

        from linkner_ray.extract.pipeline import batches_of

        if not pieces:
            return
        context = ray.data.DataContext.get_current().copy()
        context.target_max_block_size = _BUCKET_BLOCK_BYTES
        with ray.data.DataContext.current(context):  # a dataset keeps that of its beginning
            done = (
                ray.data.from_arrow(_rows_of(pieces))
                .map_batches(
                    partial(_read, read), batch_format="pyarrow", batch_size=None, num_cpus=1
                )
                .groupby(BUCKET, num_partitions=len(pieces))
                .map_groups(partial(_do_bucket, work), batch_format="pyarrow", num_cpus=1)
            )
        for batch in batches_of(done):
            for content in batch["content"].to_pylist():
                yield _raise_if_error(_unpack(content))


def _rows_of(pieces: Sequence[object]) -> list[pa.Table]:
    """A table of one row for each piece, so that each is a block."""
    return [
        pa.table({"place": [place], "content": [_pack(piece)]})
        for place, piece in enumerate(pieces)
    ]


def _do(work: Callable[[Any], Any], batch: pa.Table) -> pa.Table:
    pieces = map(_unpack, batch["content"].to_pylist())
    found = [_pack(_try(work, piece)) for piece in pieces]
    return pa.table({"place": batch["place"], "content": pa.array(found, pa.binary())})


def _read(read: Callable[[Any], pa.Table], batch: pa.Table) -> pa.Table:
    """A row for each bucket that a piece has rows of, with these in a cell; or for an error."""
    parts: list[tuple[int, object]] = []
    for piece in batch["content"].to_pylist():
        rows = _try(read, _unpack(piece))
        parts += [(0, rows)] if isinstance(rows, LinknerError) else split(rows)
    columns = [number for number, _ in parts], [_pack(rows) for _, rows in parts]
    return pa.table(columns, schema=_PART)


def _do_bucket(work: Callable[[pa.Table], Any], batch: pa.Table) -> pa.Table:
    parts = [_unpack(content) for content in batch["content"].to_pylist()]
    errors = [part for part in parts if isinstance(part, LinknerError)]
    result = errors[0] if errors else _try(work, pa.concat_tables(parts))
    return pa.table({"content": pa.array([_pack(result)], pa.binary())})


def _try(work: Callable[[Any], Any], piece: object) -> Any:  # noqa: ANN401 - what the work gives
    """The result, or an error of ours: Ray would bring it back as text."""
    try:
        return work(piece)
    except LinknerError as error:
        return error


def _raise_if_error(result: Any) -> Any:  # noqa: ANN401 - what the work gives
    if isinstance(result, LinknerError):
        raise result
    return result


def _pack(value: object) -> bytes:
    from ray import cloudpickle

    packed: bytes = cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    return packed


def _unpack(content: bytes) -> Any:  # noqa: ANN401 - what was packed
    from ray import cloudpickle

    return cloudpickle.loads(content)
