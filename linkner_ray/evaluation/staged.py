"""Labelled sets through the stages of a run: as configured, with every answer, by each estimate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import EvaluateConfig, RoutingConfig, Uncertainty
from linkner_ray.errors import ContractError
from linkner_ray.evaluation.candidates import uncertainties
from linkner_ray.evaluation.curves import answers_of_routes
from linkner_ray.evaluation.detection import FloatArray
from linkner_ray.extract.documents import run_documents
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.contract import apply_stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """The units of all sets after the stages, each list in their order."""

    linked: Sequence[pa.Table]
    answered: Sequence[pa.Table]
    estimates: Mapping[str, Sequence[FloatArray]]
    seconds: Mapping[str, float]


def run_stages(
    units: Sequence[pa.Table],
    chain: Chain,
    config: EvaluateConfig,
    estimates: Sequence[Uncertainty],
) -> Staged:
    """Send documents through the stages, and once more without an LLM for each estimate."""
    asking = chain
    if config.study.ask_all and chain.has_llm:
        asking = replace(chain, routing=RoutingConfig(threshold=0.0, per_name=None), link=None)
    run = run_documents(units, asking, config.resources, what="units")
    linked = run.tables if asking is chain else _as_configured(run.tables, chain)
    uncertainty: dict[str, list[FloatArray]] = {
        config.recognize.uncertainty: [uncertainties(table) for table in run.tables]
    }
    seconds = dict(run.seconds)
    for name in estimates:
        recognize = config.recognize.model_copy(update={"uncertainty": name})
        alone = replace(chain, recognize=recognize, has_llm=False)
        other = run_documents(units, alone, config.resources, what=f"units, {name}")
        for ours, theirs in zip(run.tables, other.tables, strict=True):
            _check_same_spans(ours, theirs, name)
        uncertainty[name] = [uncertainties(table) for table in other.tables]
        for stage, spent in other.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    return Staged(linked=linked, answered=run.tables, estimates=uncertainty, seconds=seconds)


def _as_configured(answered: Sequence[pa.Table], chain: Chain) -> list[pa.Table]:
    """The run as configured, computed from candidates that all have answers."""
    bare = [table.drop_columns(["routes", "entities"]) for table in answered]
    linked = []
    for unit in chain.units_at_hand(bare):
        unit.apply(chain.route(unit.max_asked))
        routed = answers_of_routes(unit.documents)
        if routed is None:
            raise ContractError("evaluate: every candidate was asked about, and one has no answer")
        linked.append(apply_stage(chain.fuse(), routed))
    return linked


def _check_same_spans(ours: pa.Table, theirs: pa.Table, estimate: str) -> None:
    """Check that an estimate of uncertainty has not changed which spans are candidates."""
    first, second = (pc.list_flatten(table["candidates"]) for table in (ours, theirs))
    for name in ("sentence", "start", "end", "kind"):
        if pc.struct_field(first, name) != pc.struct_field(second, name):
            raise ContractError(f"evaluate: candidates under the estimate {estimate} are others")
