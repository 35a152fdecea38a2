"""What a stage is: a callable from table to table that declares what it reads and adds."""

from typing import ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.errors import ContractError
from linkner_ray.schemas import require_columns


class Stage(Protocol):
    """A step of the pipeline: one row out for each row in, columns added, none changed."""

    reads: ClassVar[tuple[str, ...]]
    adds: ClassVar[tuple[str, ...]]

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the table with the columns of `adds` appended."""
        ...


def apply_stage(stage: Stage, batch: pa.Table) -> pa.Table:
    """Run a stage and hold it to its contract.

    Where the table has what the stage adds already, the stage sees the rows alone in which it is
    null; without any, it is not called.

    Raises:
        ContractError: If a column it reads is missing, rows were lost or made, or a column it
            adds is missing or of another type than declared.
    """
    require_columns(batch, stage.reads)
    if set(stage.adds) & set(batch.column_names):
        return _apply_where_missing(stage, batch)
    result = stage(batch)
    name = type(stage).__name__
    if result.num_rows != batch.num_rows:
        raise ContractError(f"{name}: {batch.num_rows} rows in, {result.num_rows} rows out")
    try:
        require_columns(result, (*stage.adds, *batch.column_names))
    except ContractError as error:
        raise ContractError(f"{name}: {error}") from error
    return result


def _apply_where_missing(stage: Stage, batch: pa.Table) -> pa.Table:
    """Fill the nulls of the columns that a stage adds; the rows stay in their order."""
    require_columns(batch, stage.adds)
    is_missing = pc.is_null(batch[stage.adds[0]].combine_chunks())
    if not pc.any(is_missing).as_py():
        return batch
    result = apply_stage(stage, batch.filter(is_missing).drop_columns(list(stage.adds)))
    missing = is_missing.to_numpy(zero_copy_only=False)
    # Place of each row among the rows that were there, followed by those that were filled in.
    places = np.where(missing, (~missing).sum() + np.cumsum(missing) - 1, np.cumsum(~missing) - 1)
    for name in stage.adds:
        kept = batch[name].filter(pc.invert(is_missing))
        filled = pa.chunked_array(
            [*kept.chunks, *result[name].chunks], batch.schema.field(name).type
        )
        column = filled.combine_chunks().take(pa.array(places))
        batch = batch.set_column(batch.column_names.index(name), name, column)
    return batch
