"""A unit of work on its way through the stages."""

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.errors import StartupError
from linkner_ray.schemas import QUARANTINE
from linkner_ray.stages.contract import Stage, apply_stage

NOT_FINITE = "not_finite"
"""Reason of documents in quarantine for which the local model computes NaN or an infinity."""


@dataclass(slots=True, kw_only=True)
class Unit:
    """A part of a shard: its documents with the columns so far, its counters and its times."""

    documents: pa.Table
    """With the columns of the stages that it has passed."""

    name: str = ""
    source: str = ""
    """Path of the shard."""

    first_record: int = 0
    num_records: int = 0
    is_last: bool = True
    skipped: dict[str, int] = field(default_factory=dict)
    """Records that are no documents, by reason."""

    quarantine: pa.Table = field(default_factory=QUARANTINE.empty_table)
    max_asked: int | None = None
    """Its part of a budget in calls; None if the run has no such budget."""

    costs: dict[str, int] = field(default_factory=dict)
    """Counters of what it took in this run, as in `UnitResult.costs`."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds in each stage."""

    began: dict[str, float] = field(default_factory=dict)
    """Unix time at which each stage began with it."""

    workers: dict[str, int] = field(default_factory=dict)
    """Number of the process that did each stage."""

    def apply(self, stage: Stage) -> None:
        """Add a stage's columns to the documents."""
        with self.timed(type(stage).__name__):
            self.documents = apply_stage(stage, self.documents)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note when a stage began, what it took, and the process that did it."""
        began, started = time.time(), time.perf_counter()
        yield
        self.note(stage, began=began, seconds=time.perf_counter() - started)

    def note(self, stage: str, *, began: float, seconds: float) -> None:
        """Note a stage that is over."""
        self.began[stage], self.seconds[stage] = began, seconds
        self.workers[stage] = _worker_number(os.getpid())

    def reject_not_finite(self) -> None:
        """Move documents whose candidates are null into quarantine."""
        is_broken = pc.is_null(self.documents["candidates"].combine_chunks())
        if not pc.any(is_broken).as_py():
            return
        broken = self.documents.filter(is_broken).select(["doc_id", "text"]).to_pylist()
        self.documents = self.documents.filter(pc.invert(is_broken))
        rows = [
            {
                "path": self.source,
                "doc_id": row["doc_id"],
                "reason": NOT_FINITE,
                "detail": "the local model computes NaN or an infinity for one of its spans",
                "num_chars": len(row["text"]),
            }
            for row in broken
        ]
        added = pa.Table.from_pylist(rows, schema=QUARANTINE)
        self.quarantine = pa.concat_tables([self.quarantine, added])

    def require_finite(self) -> None:
        """Check that the local model computed numbers, for callers that keep no quarantine.

        Raises:
            StartupError: If it did not for a document; names it.
        """
        if self.quarantine.num_rows:
            raise StartupError(
                f"the local model computes NaN or an infinity for {self.quarantine.num_rows} "
                f"documents, such as '{self.quarantine['doc_id'][0].as_py()}'; set "
                "recognize.dtype=float32, or take another checkpoint"
            )


@lru_cache(maxsize=1)
def _worker_number(pid: int) -> int:
    """Number of a process that no other of the cluster has, but for a chance of 1 in 10^14."""
    name = f"{socket.gethostname()} {pid}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest())
