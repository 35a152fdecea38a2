"""Which rows of a Parquet file make a unit, from its footer."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from linkner_ray.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSlice:
    """Consecutive rows of one row group."""

    group: int
    first_row: int
    """Index in the shard."""

    num_rows: int


def plan_row_ranges(
    row_group_rows: Sequence[int], unit_documents: int
) -> list[tuple[GroupSlice, ...]]:
    """Divide the rows of a shard into units, by their number alone.

    Returns:
        The parts of each unit: whole row groups as long as they fit together, or one slice of a
        row group that is larger than a unit. A shard without rows has one unit without parts.
    """
    units: list[tuple[GroupSlice, ...]] = []
    pending: list[GroupSlice] = []
    num_pending = first_row = 0
    for group, num_rows in enumerate(row_group_rows):
        if pending and num_pending + num_rows > unit_documents:
            units.append(tuple(pending))
            pending, num_pending = [], 0
        if num_rows > unit_documents:
            for start in range(0, num_rows, unit_documents):
                size = min(unit_documents, num_rows - start)
                units.append((GroupSlice(group=group, first_row=first_row + start, num_rows=size),))
        elif num_rows:
            pending.append(GroupSlice(group=group, first_row=first_row, num_rows=num_rows))
            num_pending += num_rows
        first_row += num_rows
    if pending or not units:
        units.append(tuple(pending))
    return units


def row_group_rows(metadata: pq.FileMetaData) -> list[int]:
    """Rows of each row group.

    Raises:
        DataError: If they do not add up; a damaged count could ask for any number of units.
    """
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if sum(rows) != metadata.num_rows or min(rows, default=0) < 0:
        raise DataError(f"the footer counts {metadata.num_rows} rows, its row groups {sum(rows)}")
    return rows
