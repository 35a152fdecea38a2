"""The pipeline on Ray Data: units of shards in, part files out.

A row of the dataset is a unit of work, its documents an Arrow table inside one cell. Ray may merge
or split blocks as it likes, and a unit still arrives at each stage and at the writer whole.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import accumulate

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, Dataset
from ray.exceptions import RayError

from linkner_ray.config import (
    CacheConfig,
    EvaluateConfig,
    ExtractConfig,
    FusionConfig,
    LlmConfig,
    RecognizeConfig,
    ResourcesConfig,
    RoutingConfig,
)
from linkner_ray.config.budget import Quota
from linkner_ray.errors import LinknerError, StartupError
from linkner_ray.extract.metrics import RunMetrics, count_rebuilds
from linkner_ray.extract.resources import check_engine_gpus, check_resources
from linkner_ray.extract.unit_steps import (
    UNIT_ROW,
    Row,
    apply_stages,
    fuse_units,
    read_sources,
    unit_of,
    unpack,
    write_units,
)
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import start_backend
from linkner_ray.runs.folder import UnitResult
from linkner_ray.runs.previous import PreviousRun
from linkner_ray.runs.units import Source
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.contract import Stage, apply_stage
from linkner_ray.stages.demonstration_source import load_demonstrations
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.recognize_when_needed import RecognizeWhenNeeded
from linkner_ray.stages.route_spans import RouteSpans, set_quota

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

    cache: CacheConfig = field(default_factory=CacheConfig)

    @classmethod
    def of(cls, config: ExtractConfig | EvaluateConfig, label_set: LabelSet) -> "Chain":
        """The parts of a job's config that the chain needs."""
        return cls(
            recognize=config.recognize,
            routing=config.routing,
            llm=config.llm,
            fusion=config.fusion,
            resources=_without_idle_gpus(config.resources, config.llm),
            label_set=label_set,
            cache=config.cache,
        )

    @property
    def has_llm(self) -> bool:
        """Whether there is anybody to ask."""
        return self.llm.backend != "none"


def _without_idle_gpus(resources: ResourcesConfig, llm: LlmConfig) -> ResourcesConfig:
    """A replay computes nothing, whatever the engine it stands for took."""
    return resources.model_copy(update={"llm_gpus": 0.0}) if llm.backend == "replay" else resources


class RunStages:
    """Actor class: applies stages to each unit of a block; the models live as long as the actor."""

    def __init__(self, make_stages: Callable[[], Sequence[Stage]]) -> None:
        """Load the models."""
        self.stages = make_stages()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add the stages' columns to each unit's documents."""
        return pa.Table.from_pylist(
            [apply_stages(row, self.stages) for row in batch.to_pylist()], schema=UNIT_ROW
        )


def _recognize(config: RecognizeConfig) -> Stage:
    # Not at the top: workers that read and write would load torch with this module.
    from linkner_ray.stages.recognize_spans import RecognizeSpans

    return RecognizeSpans(config)


def _encoder_stages(
    recognize: RecognizeConfig, routing: RoutingConfig, *, has_llm: bool, when_needed: bool
) -> list[Stage]:
    first = (
        RecognizeWhenNeeded(partial(_recognize, recognize))
        if when_needed
        else _recognize(recognize)
    )
    return [first, RouteSpans(routing, has_llm=has_llm)]


def _llm_stages(
    llm: LlmConfig, cache: CacheConfig, label_set: LabelSet, *, own_cores: bool = False
) -> list[Stage]:
    if llm.backend == "none":
        return [ClassifySpans(None, label_set, config=llm)]
    demonstrations = load_demonstrations(llm, label_set)
    backend = start_backend(llm, label_set, cache, own_cores=own_cores, on_rebuild=count_rebuilds())
    return [ClassifySpans(backend, label_set, config=llm, demonstrations=demonstrations)]


def add_model_stages(units: Dataset, chain: Chain, *, when_needed: bool = False) -> Dataset:
    """Recognition and Detection on encoder actors, Classification on LLM actors.

    Args:
        units: Rows of `UNIT_ROW`.
        chain: The stages.
        when_needed: Whether encoders are loaded only when a document needs one.
    """
    resources = chain.resources
    make_encoder_stages = partial(
        _encoder_stages,
        chain.recognize,
        chain.routing,
        has_llm=chain.has_llm,
        when_needed=when_needed,
    )
    make_llm_stages = partial(
        _llm_stages,
        chain.llm,
        chain.cache,
        chain.label_set,
        # One alone may use what others leave idle; several would crowd the same cores.
        own_cores=resources.llm_actors > 1,
    )
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


def run_extraction(  # noqa: PLR0913 - a plan in its parts
    config: ExtractConfig,
    *,
    plan_digest: str,
    label_set: LabelSet,
    todo: Sequence[tuple[Source, list[int]]],
    sources: Sequence[Source],
    previous: PreviousRun | None = None,
) -> Iterator[UnitResult]:
    """Send shards through all stages; a unit result comes back for each unit written.

    Args:
        config: The resolved config.
        plan_digest: Digest of what decides the output.
        label_set: Label set of the checkpoint.
        todo: Shards, each with the first records of its units that are done.
        sources: All shards of the plan; a budget in calls is divided among them by size.
        previous: Run from which what is known of a text is reused.

    Raises:
        LinknerError: What a stage or an actor's start raised.
    """
    chain = Chain.of(config, label_set)
    _prepare(chain)
    quotas = _quotas(chain, sources)
    items: list[Row] = [
        {
            "source": json.dumps(asdict(source)),
            "done": done,
            "quota": json.dumps(asdict(quotas[source.path])) if quotas else None,
        }
        for source, done in todo
    ]
    schema = pa.schema(
        [("source", pa.string()), ("done", pa.list_(pa.int64())), ("quota", pa.string())]
    )
    read = partial(
        read_sources,
        plan_digest=plan_digest,
        config=config.input,
        sentences=config.sentences,
        raw_chars=config.errors.raw_chars,
    )
    if previous is not None:
        # Once for each machine, in memory that its workers share.
        read = partial(_read_beside, ray.put(previous), read)
    write = partial(write_units, output=config.output, fusion=config.fusion, label_set=label_set)
    units = _blocks_of(items, schema).map_batches(
        read, batch_format="pyarrow", num_cpus=config.resources.read_cpus
    )
    unit_results = add_model_stages(units, chain, when_needed=previous is not None).map_batches(
        write, batch_format="pyarrow", num_cpus=config.resources.write_cpus
    )
    metrics = RunMetrics(shards=len(todo))
    for row in _rows(unit_results):
        unit_result = UnitResult.from_record(json.loads(str(row["unit_result"])))
        metrics.add(unit_result)
        yield unit_result


def _read_beside(
    previous: "ray.ObjectRef[PreviousRun]", read: Callable[..., Iterator[pa.Table]], batch: pa.Table
) -> Iterator[pa.Table]:
    """Read with a run at hand that lies in the object store."""
    yield from read(batch, previous=ray.get(previous))


def _quotas(chain: Chain, sources: Sequence[Source]) -> dict[str, Quota]:
    """Part of each shard, by path, in a budget of calls; nothing for another budget or none."""
    calls = chain.routing.max_calls
    if calls is None:
        return {}
    total = sum(source.size for source in sources)
    before = accumulate((source.size for source in sources), initial=0)
    return {
        source.path: Quota(calls=calls, total_bytes=total, bytes_before=position)
        for source, position in zip(sources, before, strict=False)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedDocuments:
    """Documents at hand after all stages."""

    tables: tuple[pa.Table, ...]
    """With all stage columns, in the order given; `answers.source` says where each came from."""

    seconds: dict[str, float]
    """Seconds of each stage, summed over the tables."""


def run_documents(tables: Sequence[pa.Table], chain: Chain) -> StagedDocuments:
    """Send tables of documents with sentences through the model stages; nothing is written.

    Raises:
        LinknerError: What a stage or an actor's start raised.
    """
    _prepare(chain)
    items = [
        unit_of(table, f"{index:010d}")
        for index, table in enumerate(set_quotas(tables, chain.routing))
    ]
    fused = add_model_stages(_blocks_of(items, UNIT_ROW), chain).map_batches(
        partial(fuse_units, fusion=chain.fusion, label_set=chain.label_set),
        batch_format="pyarrow",
        num_cpus=chain.resources.write_cpus,
    )
    rows = sorted(_rows(fused), key=lambda row: str(row["unit"]))
    seconds: dict[str, float] = {}
    for row in rows:
        for stage, spent in json.loads(str(row["seconds"])).items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    return StagedDocuments(tables=tuple(unpack(row["documents"]) for row in rows), seconds=seconds)


def set_quotas(tables: Sequence[pa.Table], routing: RoutingConfig) -> list[pa.Table]:
    """Documents at hand, each table marked with its part of a budget in calls, if there is one."""
    if routing.max_calls is None:
        return list(tables)
    # They have no size; each document counts as one byte.
    ends = list(accumulate((table.num_rows for table in tables), initial=0))
    quota = Quota(calls=routing.max_calls, total_bytes=ends[-1])
    parts = map(quota.between, ends, ends[1:])
    return [set_quota(table, part) for table, part in zip(tables, parts, strict=True)]


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
    if chain.llm.backend == "vllm":
        check_engine_gpus(resources, parts=chain.llm.tensor_parallel_size)
    if resources.check:
        known = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in known if node["Alive"]]
        check_resources(resources, has_llm=chain.has_llm, nodes=nodes)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # It holds models against the `memory` nobody asked for, and says so every half minute.
    context.issue_detectors_config.high_memory_detector_config.detection_time_interval_s = -1
    context.target_max_block_size = ONE_ROW_BLOCKS
    context.wait_for_min_actors_s = int(resources.startup_timeout_s)


def _blocks_of(items: Sequence[Row], schema: pa.Schema) -> Dataset:
    """A dataset of up to MAX_SOURCE_BLOCKS blocks."""
    share = -(-len(items) // MAX_SOURCE_BLOCKS) or 1
    return ray.data.from_arrow(
        [
            pa.Table.from_pylist(items[first : first + share], schema=schema)
            for first in range(0, len(items), share)
        ]
    )


def _rows(dataset: Dataset) -> Iterator[Row]:
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
