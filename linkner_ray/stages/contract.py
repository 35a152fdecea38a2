"""What a stage is: a callable from table to table that declares what it reads and adds."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

import pyarrow as pa

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

    Raises:
        ContractError: If a column it reads is missing, rows were lost or made, or a column it
            adds is missing or of another type than declared.
    """
    require_columns(batch, stage.reads)
    result = stage(batch)
    name = type(stage).__name__
    if result.num_rows != batch.num_rows:
        raise ContractError(f"{name}: {batch.num_rows} rows in, {result.num_rows} rows out")
    try:
        require_columns(result, (*stage.adds, *batch.column_names))
    except ContractError as error:
        raise ContractError(f"{name}: {error}") from error
    return result


def check_chain(stages: Iterable[type[Stage]], available: Sequence[str]) -> None:
    """Check before a run that each stage finds what it reads.

    Raises:
        ContractError: Naming the stage and the column nobody gives it.
    """
    columns = set(available)
    for stage in stages:
        missing = set(stage.reads) - columns
        if missing:
            raise ContractError(f"{stage.__name__} reads {sorted(missing)}, which no stage adds")
        columns |= set(stage.adds)
