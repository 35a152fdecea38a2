"""Reading a shard, whatever its format."""

from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from linkner_ray.config import InputConfig
from linkner_ray.errors import ConfigError, DataError, hide_secrets
from linkner_ray.readers.compression import ShardStream, read_head
from linkner_ray.readers.documents import Checks, whole_shard_unit
from linkner_ray.readers.jsonl import read_jsonl
from linkner_ray.readers.other_format import find_other_format
from linkner_ray.readers.parquet import open_parquet, read_parquet
from linkner_ray.readers.parquet_schema import find_schema_fault
from linkner_ray.readers.row_ranges import plan_row_ranges, row_group_rows
from linkner_ray.readers.streams import group_records
from linkner_ray.readers.warc import read_warc
from linkner_ray.runs.units import Source, UnitDocuments
from linkner_ray.storage import open_file


def read_units(
    source: Source,
    *,
    config: InputConfig,
    errors_raw_chars: int,
    done: Mapping[int, int],
) -> Iterator[UnitDocuments]:
    """Units of a shard in order, without those that are done.

    Every record belongs to exactly one unit, and a unit's boundaries do not depend on what is done:
    the number of records of each finished unit by its first one. A shard without records has one
    unit without records.

    Raises:
        StoreError: If the store fails; nothing is quarantined for that.
    """
    checks = Checks(path=source.shown, config=config, errors_raw_chars=errors_raw_chars)
    try:
        file = _open(source)
    except OSError as error:
        if 0 not in done:
            detail = f"cannot be opened: {hide_secrets(str(error))}"
            yield whole_shard_unit(checks, reason="unreadable_file", detail=detail)
        return
    if source.format == "parquet":
        with file:
            yield from read_parquet(file, checks=checks, done=done)
        return
    with ShardStream(file, source.shown) as stream:
        read = read_jsonl if source.format == "jsonl" else read_warc
        yield from group_records(
            read(stream, config),
            checks=checks,
            is_done=done.__contains__,
            progress=lambda: min(stream.position / max(source.size, 1), 1.0),
        )


def check_sources(sources: Sequence[Source], config: InputConfig) -> None:
    """Look, before a run starts, at what the whole input is likely to have wrong.

    A single file that cannot be read passes: it is one bad shard, which the run puts in quarantine.

    Raises:
        ConfigError: If the first and the last shard are of another format than they are read as,
            or the first is Parquet and lacks the text column, or has it in a type that cannot be
            read.
    """
    first = sources[0]
    others = [_other_format(source) for source in {first: None, sources[-1]: None}]
    if all(others):
        raise ConfigError(f"{first.path}: {others[0]}")
    if first.format != "parquet":
        return
    try:
        with _open(first) as file, open_parquet(file) as parquet:
            fault = find_schema_fault(parquet.schema_arrow, config)
    except (DataError, OSError):
        return
    if fault is not None:
        raise ConfigError(f"{first.path}: {fault.detail}")


def _other_format(source: Source) -> str | None:
    """What a shard is, where that is plainly not its format."""
    try:
        with _open(source) as file:
            return find_other_format(read_head(file, source.shown), source.format)
    except OSError:
        return None


def unit_ranges(source: Source, config: InputConfig) -> list[tuple[int, int]] | None:
    """First record and number of records of each unit of a Parquet shard, from its footer.

    None where only reading the shard tells. One with more than `unit_chars` becomes several.
    """
    if source.format != "parquet":
        return None
    try:
        with _open(source) as file, open_parquet(file) as parquet:
            rows = row_group_rows(parquet.metadata)
    except (DataError, OSError):
        return None
    return [
        (parts[0].first_row if parts else 0, sum(part.num_rows for part in parts))
        for parts in plan_row_ranges(rows, config.unit_documents)
    ]


def count_units(source: Source, config: InputConfig) -> int | None:
    """Least units of a Parquet shard, from its footer; None where only reading the shard tells."""
    ranges = unit_ranges(source, config)
    return None if ranges is None else len(ranges)


def _open(source: Source) -> IO[bytes]:
    # Arrow asks for whole column chunks and streams read ahead by themselves in large blocks.
    return open_file(source.path, cache="none" if source.format == "parquet" else "readahead")
