"""The pipeline on Ray Data: units of shards in, part files out.

A row of the dataset is a unit. The steps of `stages.chain` are done by four kinds of processes:
reading tasks, encoder actors, LLM actors and writing tasks.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, Dataset
from ray.exceptions import RayError

from linkner_ray.config import ExtractConfig, OutputConfig, ResourcesConfig
from linkner_ray.config.budget import Quota
from linkner_ray.errors import LinknerError, StartupError
from linkner_ray.extract.metrics import RunMetrics, count_rebuilds
from linkner_ray.extract.resources import check_resources, without_idle_gpus
from linkner_ray.extract.unit_rows import rows_of, units_in
from linkner_ray.labels import LabelSet
from linkner_ray.runs.folder import UnitResult
from linkner_ray.runs.previous import PreviousRun
from linkner_ray.runs.units import Source
from linkner_ray.stages.chain import Chain, Step, units_of
from linkner_ray.stages.encode_words import EncodeWords
from linkner_ray.stages.reuse import ReuseDocuments
from linkner_ray.stages.write_entities import write_unit

MAX_SOURCE_BLOCKS = 4096
"""Blocks of planned shards; a larger corpus puts several shards into one."""

ONE_ROW_BLOCKS = 1
"""Block size in bytes that makes each unit a block of its own, so that units spread over actors."""

_SHARD_ROW = pa.schema(
    [("source", pa.string()), ("done", pa.map_(pa.int64(), pa.int64())), ("quota", pa.string())]
)


def run_extraction(  # noqa: PLR0913 - a plan in its parts
    config: ExtractConfig,
    *,
    plan_digest: str,
    label_set: LabelSet,
    todo: Sequence[tuple[Source, Mapping[int, int]]],
    sources: Sequence[Source],
    previous: PreviousRun | None = None,
) -> Iterator[UnitResult]:
    """Send shards through all stages; a unit result comes back for each unit written.

    Args:
        config: The resolved config.
        plan_digest: Digest of what decides the output.
        label_set: Label set of the checkpoint.
        todo: Shards, each with its units that are done: their records by their first one.
        sources: All shards of the plan; a budget in calls is divided among them by size.
        previous: Run from which what is known of a text is reused.

    Raises:
        LinknerError: What a stage or an actor's start raised.
    """
    chain = Chain.of(config, label_set)
    resources = prepare(chain, config.resources)
    read = partial(
        _read,
        partial(read_shards, config=config, plan_digest=plan_digest),
        # Once for each machine, in memory that its workers share.
        ray.put(chain.load_encode_words()),
        None if previous is None else ray.put(previous),
    )
    units = blocks_of(shard_rows(chain, todo, sources)).map_batches(
        read, batch_format="pyarrow", num_cpus=resources.read_cpus
    )
    units = add_model_steps(units, chain, resources, when_needed=previous is not None)
    written = units.map_batches(
        partial(_write, chain, config.output),
        batch_format="pyarrow",
        num_cpus=resources.write_cpus,
    )
    metrics = RunMetrics(shards=len(todo))
    for batch in batches_of(written):
        for content in batch["unit_result"].to_pylist():
            unit_result = UnitResult.from_record(json.loads(content))
            metrics.add(unit_result)
            yield unit_result


def shard_rows(
    chain: Chain, todo: Sequence[tuple[Source, Mapping[int, int]]], sources: Sequence[Source]
) -> pa.Table:
    """Arguments of the reading tasks, a row a shard; see `run_extraction`."""
    quotas = chain.quotas([source.size for source in sources])
    quota_of = dict(zip([source.path for source in sources], quotas, strict=True))
    rows = [
        {
            "source": json.dumps(asdict(source)),
            "done": list(done.items()),
            "quota": quota and json.dumps(asdict(quota)),
        }
        for source, done in todo
        for quota in [quota_of[source.path]]
    ]
    return pa.Table.from_pylist(rows, schema=_SHARD_ROW)


def read_shards(
    batch: pa.Table,
    *,
    config: ExtractConfig,
    plan_digest: str,
    previous: PreviousRun | None = None,
    encode: EncodeWords | None = None,
) -> Iterator[pa.Table]:
    """Read the units of rows of `shard_rows`; a table of schema `unit_rows.UNIT_ROW` for each."""
    reuse = None if previous is None else ReuseDocuments(previous)
    for row in batch.to_pylist():
        for unit in units_of(
            Source(**json.loads(row["source"])),
            config,
            plan_digest=plan_digest,
            done=dict(row["done"]),
            quota=None if row["quota"] is None else Quota(**json.loads(row["quota"])),
            reuse=reuse,
            encode=encode,
        ):
            yield rows_of([unit])


def _read(
    read: Callable[..., Iterator[pa.Table]],
    encode: "ray.ObjectRef[EncodeWords]",
    previous: "ray.ObjectRef[PreviousRun] | None",
    batch: pa.Table,
) -> Iterator[pa.Table]:
    """Read with what lies in the object store."""
    known = None if previous is None else ray.get(previous)
    yield from read(batch, encode=_kept(encode), previous=known)


@lru_cache(maxsize=1)
def _kept(encode: "ray.ObjectRef[EncodeWords]") -> EncodeWords:
    """What a process keeps from task to task, with the words that it remembers."""
    # As many processes read as there are cores; a tokenizer's threads would only take turns.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return ray.get(encode)


def _write(chain: Chain, output: OutputConfig, batch: pa.Table) -> pa.Table:
    """Units to files and unit results."""
    fuse = chain.fuse_step()
    unit_results = []
    for unit in units_in(batch):
        fuse(unit)
        unit_results.append(json.dumps(asdict(write_unit(unit, output))))
    return pa.table({"unit_result": pa.array(unit_results, pa.string())})


class RunStep:
    """Actor class: does a step with each unit; its models live as long as the actor."""

    def __init__(self, make_step: Callable[[], Step]) -> None:
        """Load the models."""
        self.step = make_step()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The units after the step."""
        units = list(units_in(batch))
        for unit in units:
            self.step(unit)
        return rows_of(units)


def _recognize(chain: Chain, *, when_needed: bool) -> Step:
    return chain.recognize_step(chain.load_recognizer(when_needed=when_needed))


def _classify(chain: Chain) -> Step:
    return chain.classify_step(chain.start_llm(count_rebuilds()))


def _step_once(make_step: Callable[[], Step], batch: pa.Table) -> pa.Table:
    """The same as `RunStep` for a step that holds no model."""
    return RunStep(make_step)(batch)


def add_model_steps(
    units: Dataset, chain: Chain, resources: ResourcesConfig, *, when_needed: bool = False
) -> Dataset:
    """Recognition and Detection on encoder actors, Classification on LLM actors.

    Rows are of `unit_rows.UNIT_ROW`. With `when_needed` an encoder is loaded only when a document
    needs one.
    """
    units = units.map_batches(
        RunStep,
        fn_constructor_args=(partial(_recognize, chain, when_needed=when_needed),),
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
            partial(_step_once, partial(chain.classify_step, None)),
            batch_format="pyarrow",
            num_cpus=resources.write_cpus,
        )
    return units.map_batches(
        RunStep,
        fn_constructor_args=(partial(_classify, chain),),
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


def prepare(chain: Chain, resources: ResourcesConfig) -> ResourcesConfig:
    """Check that a run fits the cluster, and set Ray Data up; returns what the run takes."""
    resources = without_idle_gpus(resources, chain.llm)
    if resources.check:
        known = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in known if node["Alive"]]
        check_resources(resources, has_llm=chain.has_llm, nodes=nodes)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # It warns every half minute that models need more than `memory`, which no actor asks for.
    context.issue_detectors_config.high_memory_detector_config.detection_time_interval_s = -1
    context.target_max_block_size = ONE_ROW_BLOCKS
    context.wait_for_min_actors_s = int(resources.startup_timeout_s)
    return resources


def blocks_of(rows: pa.Table) -> Dataset:
    """A dataset of up to MAX_SOURCE_BLOCKS blocks."""
    share = -(-rows.num_rows // MAX_SOURCE_BLOCKS) or 1
    return ray.data.from_arrow(
        [rows.slice(first, share) for first in range(0, rows.num_rows, share)]
    )


def batches_of(dataset: Dataset) -> Iterator[pa.Table]:
    """Run a dataset; an error of ours inside one of Ray's comes out as itself."""
    try:
        yield from dataset.iter_batches(batch_format="pyarrow", batch_size=None)
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, LinknerError):
            cause = cause.__cause__ or getattr(cause, "cause", None)
        if cause is not None:
            raise cause from error
        raise StartupError(
            f"Ray gave up: {error}; the logs in its folder say more, and the same command goes on"
        ) from error
