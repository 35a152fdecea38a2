"""Tables of documents, such as labelled sets, through the model stages on Ray."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from linkner_ray.config import ResourcesConfig
from linkner_ray.extract.pipeline import add_model_steps, batches_of, blocks_of, prepare
from linkner_ray.extract.unit_rows import rows_of, units_in
from linkner_ray.logs.progress import track
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.unit import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedDocuments:
    """Tables of documents after all stages."""

    tables: tuple[pa.Table, ...]
    """With all stage columns, in the order given; `answers.source` says where each came from."""

    seconds: dict[str, float]
    """Seconds of each stage, summed over the tables."""

    @classmethod
    def of(cls, units: Iterable[Unit]) -> "StagedDocuments":
        """Units that have passed all stages, in any order.

        Raises:
            StartupError: If the local model computed no number for a document.
        """
        ordered = sorted(units, key=lambda unit: unit.first_record)
        seconds: dict[str, float] = {}
        for unit in ordered:
            unit.require_finite()
            for stage, spent in unit.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + spent
        return cls(tables=tuple(unit.documents for unit in ordered), seconds=seconds)


def run_documents(
    tables: Sequence[pa.Table], chain: Chain, resources: ResourcesConfig, *, what: str
) -> StagedDocuments:
    """Send tables of documents with sentences through the model stages; nothing is written.

    Args:
        tables: Each becomes a unit.
        chain: The stages.
        resources: For their actors.
        what: What a bar calls the units.

    Raises:
        LinknerError: What a stage or an actor's start raised.
    """
    resources = prepare(chain, resources)
    units = blocks_of(rows_of(chain.units_at_hand(tables)))
    fused = add_model_steps(units, chain, resources).map_batches(
        partial(_fuse, chain), batch_format="pyarrow", num_cpus=resources.write_cpus
    )
    done = (unit for batch in batches_of(fused) for unit in units_in(batch))
    return StagedDocuments.of(track(done, what, len(tables)))


def _fuse(chain: Chain, batch: pa.Table) -> pa.Table:
    """Units with entities; answers keep their sources."""
    units = list(units_in(batch))
    for unit in units:
        unit.apply(chain.fuse())
    return rows_of(units)
