"""A seeded sample of documents, and what each of them stands for."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from linkner_ray.config import InputConfig
from linkner_ray.logs.progress import track
from linkner_ray.readers.shards import read_units, unit_ranges
from linkner_ray.runs.units import Source
from linkner_ray.schemas import DOCUMENTS

MAX_SHARDS = 16
"""Shards that are looked into; one that is no Parquet is read to its end."""


@dataclass(frozen=True, slots=True)
class ShardSample:
    """Documents of one shard.

    Attributes:
        table: Schema `schemas.DOCUMENTS`.
        weight: Documents of the whole input that one of them stands for.
    """

    table: pa.Table
    weight: float


def draw_sample(
    sources: Sequence[Source], config: InputConfig, *, documents: int, seed: int
) -> list[ShardSample]:
    """Draw documents, or a few more, from up to MAX_SHARDS shards, as many from each.

    A shard's documents stand for the shard, the shards by their bytes for the whole input; a sample
    that is the whole input stands for itself.
    """
    rng = random.Random(seed)  # noqa: S311 - a sample, not a secret
    shards = rng.sample(list(sources), min(MAX_SHARDS, len(sources)))
    wanted = math.ceil(documents / len(shards))
    size = sum(source.size for source in shards)
    factor = sum(source.size for source in sources) / size if size else 0.0
    samples = []
    for source in track(shards, "shards read", len(shards)):
        table, stands_for = _draw_from(source, config, wanted=wanted, rng=rng)
        samples.append(ShardSample(table, stands_for * factor))
    return samples


def _draw_from(
    source: Source, config: InputConfig, *, wanted: int, rng: random.Random
) -> tuple[pa.Table, float]:
    """Documents of a shard, and how many of its documents one of them stands for.

    Of Parquet only the units drawn are read; any other shard is read to its end, since its
    beginning need not be like the rest.
    """
    ranges = unit_ranges(source, config)
    done = {} if ranges is None else _unwanted_units(ranges, wanted=wanted, rng=rng)
    table = DOCUMENTS.empty_table()
    numbers: list[float] = []
    num_read = num_documents = 0
    for unit in read_units(source, config=config, errors_raw_chars=0, done=done):
        num_read += unit.num_records
        num_documents += unit.documents.num_rows
        # Each document draws a number, and those with the smallest stay: a shard is never held.
        numbers += [rng.random() for _ in range(unit.documents.num_rows)]
        table = pa.concat_tables([table, unit.documents.select(DOCUMENTS.names)])
        chosen = sorted(sorted(range(len(numbers)), key=numbers.__getitem__)[:wanted])
        table = table.take(pa.array(chosen, pa.int64()))
        numbers = [numbers[place] for place in chosen]
    if not numbers:
        return table, 0.0
    num_records = num_read if ranges is None else sum(count for _, count in ranges)
    return table, num_records / num_read * num_documents / len(numbers)


def _unwanted_units(
    ranges: Sequence[tuple[int, int]], *, wanted: int, rng: random.Random
) -> dict[int, int]:
    """Units that are left when randomly drawn ones hold as many records as wanted."""
    unwanted, num_records = {}, 0
    for first, count in rng.sample(list(ranges), len(ranges)):
        if num_records >= wanted:
            unwanted[first] = count
        num_records += count
    return unwanted
