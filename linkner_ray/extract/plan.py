"""What a run will do, decided before anything starts: its shards, and what decides its output."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linkner_ray.config import ExtractConfig
from linkner_ray.errors import ConfigError, counted, hide_secrets
from linkner_ray.labels import LabelSet
from linkner_ray.linking.summary import describe_summary, summary_of
from linkner_ray.llm.model_identity import (
    check_replay_source,
    engine_dtype,
    known_content,
    with_known_revision,
)
from linkner_ray.readers import check_sources, list_sources
from linkner_ray.runs.folder import UnitResult, json_digest
from linkner_ray.runs.units import Source
from linkner_ray.schemas import SCHEMA_VERSION
from linkner_ray.spanner.calibration.named_threshold import JobConfig, with_threshold
from linkner_ray.spanner.checkpoint import (
    CheckpointParts,
    check_estimate,
    local_checkpoint,
    read_parts,
)
from linkner_ray.spanner.digests import calibration_digest, checkpoint_digest, encoder_digest
from linkner_ray.stages.demonstration_source import corpus_digest, pin_demonstrations
from linkner_ray.stages.link_source import asked_as_linked, link_of, prompt_digest
from linkner_ray.storage import Folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do, decided before anything starts."""

    config: ExtractConfig
    label_set: LabelSet
    fingerprint: dict[str, Any]
    """What decides the output; a folder belongs to one such fingerprint."""

    sources: tuple[Source, ...]
    languages: tuple[str, ...] | None = None
    """What the checkpoint was trained on; None where it does not say."""

    @property
    def digest(self) -> str:
        """Name of `fingerprint`."""
        return json_digest(self.fingerprint)

    @property
    def has_llm(self) -> bool:
        """Whether an LLM is started: there is one, and it gains something by its link."""
        link = self.fingerprint.get("link")
        return self.config.llm.backend != "none" and (link is None or link["asks"])

    @property
    def link_note(self) -> tuple[str, ...]:
        """What the link says, if there is one."""
        link = self.fingerprint.get("link")
        path = self.config.shown()["routing"]["link"]
        return () if link is None else (describe_summary(path, link),)


def describe_models(plan: Plan, *, when_needed: bool = False) -> str:
    """The models that a run loads, each with its size where it is known, and how many times.

    Args:
        plan: Of the run.
        when_needed: Whether encoders are loaded only when a document needs one.
    """
    config = plan.config
    resources, llm = config.resources, config.llm
    checkpoint = config.recognize.checkpoint
    parts = [
        f"{hide_secrets(checkpoint)}{_size(local_checkpoint(checkpoint))} into "
        f"{counted(resources.encoder_actors, 'encoder actor')}"
        f"{' as soon as a text is new' if when_needed else ''}"
    ]
    if plan.has_llm and llm.backend == "vllm":
        engines = counted(resources.llm_actors, "vLLM engine")
        parts.append(f"{llm.model}{_size(Path(llm.model))} into {engines}")
    elif plan.has_llm:
        asked = f"{llm.model} at {hide_secrets(llm.base_url or '')}"
        parts.append(f"asking {asked if llm.backend == 'openai' else 'recorded answers'}")
    return " and ".join(parts)


def _size(folder: Path) -> str:
    """Size of the files in a folder, such as " (431 MB)"; nothing where there is none."""
    size = sum(file.stat().st_size for file in folder.glob("?*") if file.is_file())
    return f" ({size / 1e6:,.0f} MB)" if size else ""


def resolve_models(config: JobConfig) -> JobConfig:
    """The config with what its names and `auto` stand for now, which all workers are told.

    That is a threshold by name, the encoder's number format, the way of asking that a link was
    measured in, and commits of models of the Hugging Face hub.

    Raises:
        ConfigError: If there is no such threshold, link or model.
    """
    config = with_threshold(config)
    recognize = config.recognize.with_dtype(config.resources.encoder_gpus)
    llm = with_known_revision(asked_as_linked(config.llm, config.routing))
    if llm.backend != "none":
        demonstrations = pin_demonstrations(llm.demonstrations)
        llm = llm.model_copy(update={"demonstrations": demonstrations})
    return config.model_copy(update={"recognize": recognize, "llm": llm})


def check_models(config: JobConfig, checkpoint: CheckpointParts) -> None:
    """Check that a checkpoint and an LLM can give what a config wants of them.

    Raises:
        ConfigError: If the checkpoint lacks a label or an estimate, there are no answers to replay,
            or a file stands where answers are to be kept.
    """
    config.routing.check_labels(checkpoint.label_set.ids)
    check_estimate(
        config.recognize.uncertainty, loss=checkpoint.loss, dropout=checkpoint.model.dropout
    )
    check_replay_source(config.llm, config.cache)
    # Whether it can be written is for the machines of the LLM to say.
    if config.cache.path and Folder.at(config.cache.path).is_file():
        raise ConfigError(f"cache.path = {config.cache.path}: is a file; name a folder")


def plan_extraction(config: ExtractConfig) -> Plan:
    """List the shards and fix what decides the output.

    Raises:
        ConfigError: If a path matches nothing, the first shard lacks the text column, or there is
            no checkpoint, or one that does not go with the config.
    """
    if not config.recognize.checkpoint:
        raise ConfigError("recognize.checkpoint is not set; give a folder written by `train`")
    config = resolve_models(config)
    checkpoint = read_parts(local_checkpoint(config.recognize.checkpoint))
    label_set = checkpoint.label_set
    sources = tuple(list_sources(config.input))
    check_sources(sources, config.input)
    deciding = config.deciding()
    deciding["llm"]["dtype"] = engine_dtype(config.llm)
    check_models(config, checkpoint)
    fingerprint: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "demonstrations": corpus_digest(config.llm),
        "prompt": prompt_digest(config.llm, label_set),
        "checkpoint": checkpoint_digest(config.recognize.checkpoint),
        "encoder": encoder_digest(config.recognize.checkpoint),
        "calibration": calibration_digest(config.recognize.checkpoint),
        "labels": list(label_set.ids),
        "label_set": label_set.digest,
        "llm": known_content(config.llm),
        "config": deciding,
    }
    link = link_of(config.routing, config.recognize, config.llm, label_set)
    if link is not None:
        fingerprint["link"] = {"digest": json_digest(link.to_json()), **summary_of(link)}
        if not link.asks:
            logger.warning(
                "%s", describe_summary(config.shown()["routing"]["link"], summary_of(link))
            )
    if config.routing.max_calls is not None:
        # What a unit may ask depends on all shards, so shards that come later are another plan.
        fingerprint["budget_over"] = _sizes_digest(sources)
    return Plan(
        config=config,
        label_set=label_set,
        fingerprint=fingerprint,
        sources=sources,
        languages=checkpoint.languages,
    )


def _sizes_digest(sources: Sequence[Source]) -> str:
    """Name of the shards and their sizes."""
    return json_digest([(source.path, source.size) for source in sources])


def remaining(
    plan: Plan, done: Sequence[UnitResult], output: str
) -> list[tuple[Source, dict[int, int]]]:
    """Shards with work left, each with its finished units: their records by their first one."""
    finished: dict[str, list[UnitResult]] = {}
    for unit_result in done:
        finished.setdefault(unit_result.source_digest, []).append(unit_result)
    todo = []
    plan_digest = plan.digest
    for source in plan.sources:
        unit_results = finished.pop(source.digest(plan_digest), [])
        if not _covers_shard(unit_results):
            done_units = {result.first_record: result.num_records for result in unit_results}
            todo.append((source, done_units))
    if finished:
        gone = sorted({unit_results[0].source for unit_results in finished.values()})
        raise ConfigError(
            f"{output} holds entities of shards that have changed or are no longer in the input: "
            f"{', '.join(gone[:5])}{' ...' if len(gone) > 5 else ''}; choose another output.path, "
            f"or, if they had failures and were repaired, run `linkner failures requeue {output}`"
        )
    return todo


def _covers_shard(unit_results: Sequence[UnitResult]) -> bool:
    """Whether finished units reach from the first record of a shard to its end without a gap."""
    expected = 0
    for unit_result in sorted(unit_results, key=lambda unit_result: unit_result.first_record):
        if unit_result.first_record != expected:
            return False
        if unit_result.is_last:
            return True
        expected += unit_result.num_records
    return False
