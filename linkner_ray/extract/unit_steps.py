"""What a worker does to units of work; how they reach it is the pipeline's affair.

A unit travels as one row, its documents an Arrow table inside a cell: whoever carries rows may
regroup them, and a unit still arrives whole.
"""

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache

import pyarrow as pa

from linkner_ray.config import FusionConfig, InputConfig, OutputConfig, SentencesConfig
from linkner_ray.config.budget import Quota
from linkner_ray.errors import ContractError
from linkner_ray.labels import LabelSet
from linkner_ray.readers import read_units
from linkner_ray.runs.counters import count_costs, count_unit
from linkner_ray.runs.folder import RunFolder, UnitResult
from linkner_ray.runs.previous import PreviousRun
from linkner_ray.runs.units import Source, unit_name
from linkner_ray.schemas import QUARANTINE
from linkner_ray.stages.contract import Stage, apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.normalise_sources import normalise_sources
from linkner_ray.stages.reuse import ReuseDocuments, reuse_counters
from linkner_ray.stages.route_spans import set_quota
from linkner_ray.stages.split_sentences import SplitSentences
from linkner_ray.stages.write_entities import WriteEntities, candidates_rows

Row = dict[str, object]

UNIT_ROW = pa.schema(
    [
        ("unit", pa.string()),
        ("source", pa.string()),
        ("first_record", pa.int64()),
        ("num_records", pa.int64()),
        ("is_last", pa.bool_()),
        ("skipped", pa.string()),  # JSON: records that are no documents, by reason
        ("documents", pa.large_binary()),  # Arrow IPC stream of the table so far
        ("quarantine", pa.large_binary()),
        ("seconds", pa.string()),  # JSON: seconds by stage
        ("began", pa.string()),  # JSON: Unix time by stage
        ("workers", pa.string()),  # JSON: number of the process by stage
    ]
)

TIMES = ("seconds", "began", "workers")


def apply_stages(row: Row, stages: Sequence[Stage]) -> Row:
    """Add the stages' columns to a unit's documents, and what they took to its seconds."""
    table = unpack(row["documents"])
    clock = _Clock(row)
    for stage in stages:
        with clock.stage(type(stage).__name__):
            table = apply_stage(stage, table)
    return {**row, "documents": pack(table), **clock.columns()}


class _Clock:
    """What a unit's stages took, when they began, and where."""

    def __init__(self, row: Row | None = None) -> None:
        self.times: dict[str, dict[str, float]] = {
            name: {} if row is None else json.loads(str(row[name])) for name in TIMES
        }

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began, started = time.time(), time.perf_counter()
        yield
        self.add(name, began=began, seconds=time.perf_counter() - started)

    def add(self, name: str, *, began: float, seconds: float) -> None:
        self.times["seconds"][name] = seconds
        self.times["began"][name] = began
        self.times["workers"][name] = _worker_number(os.getpid())

    def columns(self) -> dict[str, str]:
        """As cells of a unit's row."""
        return {name: json.dumps(values) for name, values in self.times.items()}


@lru_cache(maxsize=1)
def _worker_number(pid: int) -> int:
    """Number of a process that no other of the cluster has, but for a chance of 1 in 10^14."""
    name = f"{socket.gethostname()} {pid}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest())


def unit_of(table: pa.Table, name: str) -> Row:
    """A unit made of documents that are at hand, with their sentences."""
    return {
        "unit": name,
        "source": "",
        "first_record": 0,
        "num_records": table.num_rows,
        "is_last": True,
        "skipped": "{}",
        "documents": pack(table),
        "quarantine": pack(QUARANTINE.empty_table()),
        **_Clock().columns(),
    }


def read_sources(  # noqa: PLR0913 - what a run says to its readers
    batch: pa.Table,
    *,
    plan_digest: str,
    config: InputConfig,
    sentences: SentencesConfig,
    raw_chars: int,
    previous: PreviousRun | None = None,
) -> Iterator[pa.Table]:
    """Sources to units, with their text split into sentences.

    Args:
        batch: A row a shard: `source`; `done`, the first records of finished units; `quota`,
            which marks each unit with its part of the run's calls, null if those are not limited.
        plan_digest: Digest of what decides the output.
        config: Columns to read and limits of units and documents.
        sentences: How text is split.
        raw_chars: Characters of a bad value kept in quarantine.
        previous: Run from which what is known of a text is reused; None to reuse nothing.
    """
    stages: list[Stage] = [] if previous is None else [ReuseDocuments(previous)]
    stages.append(SplitSentences(sentences))
    for item in batch.to_pylist():
        source = Source(**json.loads(item["source"]))
        digest = source.digest(plan_digest)
        done = frozenset(item["done"])
        began, started = time.time(), time.perf_counter()
        for unit in read_units(
            source, config=config, errors_raw_chars=raw_chars, is_done=done.__contains__
        ):
            documents = unit.documents
            if item["quota"] is not None:
                quota = Quota(**json.loads(item["quota"]))
                first, end = (int(share * source.size) for share in (unit.begins, unit.ends))
                documents = set_quota(documents, quota.between(first, end))
            clock = _Clock()
            clock.add("ReadDocuments", began=began, seconds=time.perf_counter() - started)
            row = {
                "unit": unit_name(digest, unit.first_record),
                "source": source.path,
                "first_record": unit.first_record,
                "num_records": unit.num_records,
                "is_last": unit.is_last,
                "skipped": json.dumps(unit.skipped),
                "documents": pack(documents),
                "quarantine": pack(unit.quarantine),
                **clock.columns(),
            }
            yield pa.Table.from_pylist([apply_stages(row, stages)], schema=UNIT_ROW)
            began, started = time.time(), time.perf_counter()


def write_units(
    batch: pa.Table, *, output: OutputConfig, fusion: FusionConfig, label_set: LabelSet
) -> pa.Table:
    """Units to files and unit results."""
    run = RunFolder(output.path)
    fuse = FuseEntities(fusion, label_set.classes)
    to_rows = WriteEntities(keep_text=output.keep_text)
    unit_results = []
    for item in batch.to_pylist():
        row, costs = _fuse(item, fuse)
        table = unpack(row["documents"])
        quarantine = unpack(row["quarantine"])
        skipped = json.loads(item["skipped"])
        began, started = time.time(), time.perf_counter()
        found = table.num_rows + quarantine.num_rows + sum(skipped.values())
        if found != item["num_records"]:
            raise ContractError(
                f"unit {item['unit']} of {item['source']}: {item['num_records']} records in, "
                f"{found} accounted for"
            )
        entities = to_rows(table)
        unit_result = UnitResult(
            unit=str(row["unit"]),
            source=str(row["source"]),
            first_record=item["first_record"],
            num_records=item["num_records"],
            is_last=item["is_last"],
            counts=count_unit(table, output=entities, quarantine=quarantine, skipped=skipped),
        )
        files = run.commit(
            unit_result,
            entities=entities,
            quarantine=quarantine,
            candidates=candidates_rows(table) if output.keep_candidates else None,
        )
        clock = _Clock(row)
        clock.add("WriteEntities", began=began, seconds=time.perf_counter() - started)
        spent = {
            **clock.times,
            "costs": costs,
            "files": [asdict(file) for file in files],
        }
        unit_results.append({"unit_result": json.dumps({**asdict(unit_result), **spent})})
    return pa.Table.from_pylist(unit_results, schema=pa.schema([("unit_result", pa.string())]))


def fuse_units(batch: pa.Table, *, fusion: FusionConfig, label_set: LabelSet) -> pa.Table:
    """Units with entities, nothing written, and so the sources of answers left as they are."""
    fuse = FuseEntities(fusion, label_set.classes)
    rows = [apply_stages(row, [fuse]) for row in batch.to_pylist()]
    return pa.Table.from_pylist(rows, schema=UNIT_ROW)


def _fuse(row: Row, fuse: FuseEntities) -> tuple[Row, dict[str, int]]:
    """A unit with entities, and what its answers took."""
    table = unpack(row["documents"])
    normalised = {**row, "documents": pack(normalise_sources(table))}
    return apply_stages(normalised, [fuse]), {**count_costs(table), **reuse_counters(table)}


def pack(table: pa.Table) -> bytes:
    """A table as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpack(content: object) -> pa.Table:
    """The table of such bytes."""
    with pa.ipc.open_stream(pa.py_buffer(content)) as reader:
        return reader.read_all()
