"""The pipeline on Ray Data: units of shards in, part files out.

A row of the dataset is a unit of work, its documents an Arrow table inside one cell. Ray may merge
or split blocks as it likes, and a unit still arrives at each stage and at the writer whole.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, Dataset
from ray.exceptions import RayError

from linkner_ray.config import (
    EvaluateConfig,
    ExtractConfig,
    FusionConfig,
    InputConfig,
    LlmConfig,
    OutputConfig,
    RecognizeConfig,
    ResourcesConfig,
    RoutingConfig,
    SentencesConfig,
)
from linkner_ray.errors import ConfigError, LinknerError, StartupError
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import start_backend
from linkner_ray.readers import read_units
from linkner_ray.runs.accounts import count_unit
from linkner_ray.runs.folder import Receipt, RunFolder
from linkner_ray.runs.units import Source, unit_name
from linkner_ray.schemas import QUARANTINE
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.contract import Stage, apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.route_spans import RouteSpans
from linkner_ray.stages.split_sentences import SplitSentences
from linkner_ray.stages.write_entities import WriteEntities, candidates_rows

logger = logging.getLogger(__name__)

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
    ]
)

MAX_SOURCE_BLOCKS = 4096
"""Blocks of planned shards; a larger corpus puts several shards into one."""

ONE_ROW_BLOCKS = 1
"""Block size in bytes that makes each unit a block of its own, so that units spread and stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The stages from Recognition to fusion, as one run wants them."""

    recognize: RecognizeConfig
    routing: RoutingConfig
    llm: LlmConfig
    fusion: FusionConfig
    resources: ResourcesConfig
    label_set: LabelSet
    """Of the checkpoint."""

    @classmethod
    def of(cls, config: ExtractConfig | EvaluateConfig, label_set: LabelSet) -> "Chain":
        """The parts of a job's config that the chain needs."""
        return cls(
            recognize=config.recognize,
            routing=config.routing,
            llm=config.llm,
            fusion=config.fusion,
            resources=config.resources,
            label_set=label_set,
        )

    @property
    def has_llm(self) -> bool:
        """Whether there is anybody to ask."""
        return self.llm.backend != "none"


def start_ray() -> None:
    """Connect to the cluster of RAY_ADDRESS, as under `ray job submit`, or start one here."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
    else:
        ray.init(logging_level=logging.WARNING, include_dashboard=False)


def check_resources(
    resources: ResourcesConfig,
    *,
    has_llm: bool,
    nodes: Sequence[dict[str, float]],
) -> None:
    """Check that all actors and one task fit the cluster at the same time.

    Ray starts actors first and lets them hold their CPUs; if nothing is left for a reading task,
    a run waits for ever (ray-project/ray#44687).

    Args:
        resources: What the run asks for.
        has_llm: Whether LLM actors are started.
        nodes: Logical resources of each node, such as `{"CPU": 2.0}`.

    Raises:
        ConfigError: If the run would hang; says what is asked, what is there and what to lower.
    """
    pools = [("encoder", resources.encoder_actors, resources.encoder_cpus, resources.encoder_gpus)]
    if has_llm:
        pools.append(("llm", resources.llm_actors, resources.llm_cpus, resources.llm_gpus))
    task = max(resources.read_cpus, resources.write_cpus)
    asked = {
        "CPU": sum(count * cpus for _, count, cpus, _ in pools) + task,
        "GPU": sum(count * gpus for _, count, _, gpus in pools),
    }
    for kind, amount in asked.items():
        there = sum(node.get(kind, 0.0) for node in nodes)
        if amount > there + 1e-6:
            parts = ", ".join(f"{count} {name} actors" for name, count, _, _ in pools)
            raise ConfigError(
                f"the run needs {amount:g} {kind}s at once ({parts}"
                f"{f' and one task of {task:g}' if kind == 'CPU' else ''}), the cluster has "
                f"{there:g}; lower resources.*_actors or resources.*_{kind.lower()}s"
            )
    for name, _, cpus, gpus in pools:
        if not any(_fits(node, {"CPU": cpus, "GPU": gpus}) for node in nodes):
            raise ConfigError(
                f"no node can hold one {name} actor of {cpus:g} CPUs and {gpus:g} GPUs; nodes "
                f"have {[dict(node) for node in nodes]}"
            )


def _fits(node: dict[str, float], asked: dict[str, float]) -> bool:
    return all(node.get(kind, 0.0) + 1e-6 >= amount for kind, amount in asked.items())


class RunStages:
    """Actor class: applies stages to each unit of a block; the models live as long as the actor."""

    def __init__(self, make_stages: Callable[[], Sequence[Stage]]) -> None:
        """Load the models."""
        self.stages = make_stages()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add the stages' columns to each unit's documents."""
        return pa.Table.from_pylist(
            [_apply_stages(row, self.stages) for row in batch.to_pylist()], schema=UNIT_ROW
        )


def _apply_stages(row: dict[str, object], stages: Sequence[Stage]) -> dict[str, object]:
    table = _unpack(row["documents"])
    seconds = json.loads(str(row["seconds"]))
    for stage in stages:
        started = time.perf_counter()
        table = apply_stage(stage, table)
        seconds[type(stage).__name__] = time.perf_counter() - started
    return {**row, "documents": _pack(table), "seconds": json.dumps(seconds)}


def _read(
    batch: pa.Table,
    *,
    plan_digest: str,
    config: InputConfig,
    sentences: SentencesConfig,
    raw_chars: int,
) -> Iterator[pa.Table]:
    """Sources to units, with their text split into sentences."""
    split = SplitSentences(sentences)
    for item in batch.to_pylist():
        source = Source(**json.loads(item["source"]))
        digest = source.digest(plan_digest)
        done = frozenset(item["done"])
        started = time.perf_counter()
        for unit in read_units(
            source, config=config, errors_raw_chars=raw_chars, is_done=done.__contains__
        ):
            row = {
                "unit": unit_name(digest, unit.first_record),
                "source": source.path,
                "first_record": unit.first_record,
                "num_records": unit.num_records,
                "is_last": unit.is_last,
                "skipped": json.dumps(unit.skipped),
                "documents": _pack(unit.documents),
                "quarantine": _pack(unit.quarantine),
                "seconds": json.dumps({"ReadDocuments": time.perf_counter() - started}),
            }
            yield pa.Table.from_pylist([_apply_stages(row, [split])], schema=UNIT_ROW)
            started = time.perf_counter()


def _write(
    batch: pa.Table, *, output: OutputConfig, fusion: FusionConfig, label_set: LabelSet
) -> pa.Table:
    """Units to files and receipts."""
    run = RunFolder(output.path)
    fuse = FuseEntities(fusion, label_set.classes)
    to_rows = WriteEntities(keep_text=output.keep_text)
    receipts = []
    for item in batch.to_pylist():
        row = _apply_stages(item, [fuse])
        table = _unpack(row["documents"])
        quarantine = _unpack(row["quarantine"])
        started = time.perf_counter()
        entities = to_rows(table)
        receipt = Receipt(
            unit=str(row["unit"]),
            source=str(row["source"]),
            first_record=item["first_record"],
            num_records=item["num_records"],
            is_last=item["is_last"],
            counts=count_unit(
                table, output=entities, quarantine=quarantine, skipped=json.loads(item["skipped"])
            ),
        )
        run.commit(
            receipt,
            entities=entities,
            quarantine=quarantine,
            candidates=candidates_rows(table) if output.keep_candidates else None,
        )
        seconds = json.loads(str(row["seconds"]))
        seconds["WriteEntities"] = time.perf_counter() - started
        receipts.append({"receipt": json.dumps({**asdict(receipt), "seconds": seconds})})
    return pa.Table.from_pylist(receipts, schema=pa.schema([("receipt", pa.string())]))


def _fuse(batch: pa.Table, *, fusion: FusionConfig, label_set: LabelSet) -> pa.Table:
    """Units with entities, nothing written."""
    fuse = FuseEntities(fusion, label_set.classes)
    return pa.Table.from_pylist(
        [_apply_stages(row, [fuse]) for row in batch.to_pylist()], schema=UNIT_ROW
    )


def _encoder_stages(
    recognize: RecognizeConfig, routing: RoutingConfig, *, has_llm: bool
) -> list[Stage]:
    return [RecognizeSpans(recognize), RouteSpans(routing, has_llm=has_llm)]


def _llm_stages(llm: LlmConfig, label_set: LabelSet) -> list[Stage]:
    backend = None if llm.backend == "none" else start_backend(llm, label_set)
    return [ClassifySpans(backend, label_set, config=llm)]


def add_model_stages(units: Dataset, chain: Chain) -> Dataset:
    """Recognition and Detection on encoder actors, Classification on LLM actors."""
    resources = chain.resources
    make_encoder_stages = partial(
        _encoder_stages, chain.recognize, chain.routing, has_llm=chain.has_llm
    )
    make_llm_stages = partial(_llm_stages, chain.llm, chain.label_set)
    units = units.map_batches(
        RunStages,
        fn_constructor_args=(make_encoder_stages,),
        batch_format="pyarrow",
        batch_size=_batch_size(resources.encoder_gpus),
        num_cpus=resources.encoder_cpus,
        num_gpus=resources.encoder_gpus,
        compute=ActorPoolStrategy(
            min_size=resources.encoder_actors,
            max_size=resources.max_encoder_actors or resources.encoder_actors,
        ),
    )
    if not chain.has_llm:
        return units.map_batches(
            partial(_stages_once, make_llm_stages),
            batch_format="pyarrow",
            num_cpus=resources.write_cpus,
        )
    return units.map_batches(
        RunStages,
        fn_constructor_args=(make_llm_stages,),
        batch_format="pyarrow",
        batch_size=_batch_size(resources.llm_gpus),
        num_cpus=resources.llm_cpus,
        num_gpus=resources.llm_gpus,
        compute=ActorPoolStrategy(
            size=resources.llm_actors,
            max_concurrent_calls_per_actor=resources.llm_concurrent_units,
            enable_true_multi_threading=True,
        ),
    )


def _batch_size(num_gpus: float) -> int | None:
    """Ray refuses whole blocks as batches for actors on GPUs; a block is one unit anyway."""
    return 1 if num_gpus else None


def _stages_once(make_stages: Callable[[], Sequence[Stage]], batch: pa.Table) -> pa.Table:
    """The same as `RunStages` for stages that hold no model."""
    return RunStages(make_stages)(batch)


def run_extraction(
    config: ExtractConfig,
    *,
    plan_digest: str,
    label_set: LabelSet,
    todo: Sequence[tuple[Source, list[int]]],
) -> Iterator[Receipt]:
    """Send shards through all stages; a receipt comes back for each unit written.

    Args:
        config: The resolved config.
        plan_digest: Digest of what decides the output.
        label_set: Label set of the checkpoint.
        todo: Shards, each with the first records of its units that are done.

    Raises:
        LinknerError: What a stage or an actor's start raised.
    """
    chain = Chain.of(config, label_set)
    _prepare(chain)
    items: list[dict[str, object]] = [
        {"source": json.dumps(asdict(source)), "done": done} for source, done in todo
    ]
    schema = pa.schema([("source", pa.string()), ("done", pa.list_(pa.int64()))])
    read = partial(
        _read,
        plan_digest=plan_digest,
        config=config.input,
        sentences=config.sentences,
        raw_chars=config.errors.raw_chars,
    )
    write = partial(_write, output=config.output, fusion=config.fusion, label_set=label_set)
    units = _blocks_of(items, schema).map_batches(
        read, batch_format="pyarrow", num_cpus=config.resources.read_cpus
    )
    receipts = add_model_stages(units, chain).map_batches(
        write, batch_format="pyarrow", num_cpus=config.resources.write_cpus
    )
    for row in _rows(receipts):
        yield Receipt(**json.loads(str(row["receipt"])))


def run_documents(tables: Sequence[pa.Table], chain: Chain) -> list[pa.Table]:
    """Send tables of documents with sentences through the model stages.

    Returns:
        The tables with all stage columns, in the order given.

    Raises:
        LinknerError: What a stage or an actor's start raised.
    """
    _prepare(chain)
    items: list[dict[str, object]] = [
        {
            "unit": f"{index:010d}",
            "source": "",
            "first_record": 0,
            "num_records": table.num_rows,
            "is_last": True,
            "skipped": "{}",
            "documents": _pack(table),
            "quarantine": _pack(QUARANTINE.empty_table()),
            "seconds": "{}",
        }
        for index, table in enumerate(tables)
    ]
    fused = add_model_stages(_blocks_of(items, UNIT_ROW), chain).map_batches(
        partial(_fuse, fusion=chain.fusion, label_set=chain.label_set),
        batch_format="pyarrow",
        num_cpus=chain.resources.write_cpus,
    )
    rows = sorted(_rows(fused), key=lambda row: str(row["unit"]))
    return [_unpack(row["documents"]) for row in rows]


def without_llm(table: pa.Table, chain: Chain) -> pa.Table:
    """The same candidates as the local model alone would have them, worked out on the spot.

    Args:
        table: With `text`, `sentences` and `candidates`.
        chain: Of the run.

    Returns:
        The table with `routes`, `answers` and `entities` of a run without an LLM.
    """
    table = table.drop_columns(
        [n for n in ("routes", "answers", "entities") if n in table.schema.names]
    )
    stages: list[Stage] = [
        RouteSpans(chain.routing, has_llm=False),
        ClassifySpans(None, chain.label_set, config=chain.llm),
        FuseEntities(chain.fusion, chain.label_set.classes),
    ]
    for stage in stages:
        table = apply_stage(stage, table)
    return table


def _prepare(chain: Chain) -> None:
    resources = chain.resources
    if resources.check:
        known = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in known if node["Alive"]]
        check_resources(resources, has_llm=chain.has_llm, nodes=nodes)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = ONE_ROW_BLOCKS
    context.wait_for_min_actors_s = int(resources.startup_timeout_s)


def _blocks_of(items: Sequence[dict[str, object]], schema: pa.Schema) -> Dataset:
    """A dataset of up to MAX_SOURCE_BLOCKS blocks."""
    share = -(-len(items) // MAX_SOURCE_BLOCKS) or 1
    return ray.data.from_arrow(
        [
            pa.Table.from_pylist(items[first : first + share], schema=schema)
            for first in range(0, len(items), share)
        ]
    )


def _rows(dataset: Dataset) -> Iterator[dict[str, object]]:
    """Run a dataset; an error of ours inside one of Ray's comes out as itself."""
    try:
        yield from dataset.iter_rows()
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LinknerError):
            cause = cause.__cause__ or getattr(cause, "cause", None)
        if cause is not None:
            raise cause from error
        raise StartupError(f"Ray gave up: {error}") from error


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _unpack(content: object) -> pa.Table:
    with pa.ipc.open_stream(pa.py_buffer(content)) as reader:
        return reader.read_all()
