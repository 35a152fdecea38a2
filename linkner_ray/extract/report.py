"""An extraction for its user: the plan before it, the report and the summary after it."""

import logging
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from linkner_ray.errors import counted, hide_secrets
from linkner_ray.extract.plan import Plan
from linkner_ray.readers import count_units
from linkner_ray.reporting.visible import make_visible
from linkner_ray.runs.code_version import LIBRARIES, versions_of
from linkner_ray.runs.folder import RunFolder

if TYPE_CHECKING:  # a plan is shown without Ray, and without what draws a report
    from linkner_ray.extract.result import ExtractionResult
    from linkner_ray.reporting.run_report import ReportScores

logger = logging.getLogger(__name__)

LISTED_SHARDS = 20
LISTED_LANGUAGES = 5

_DATASET_CARD = """\
---
configs:
- config_name: entities
  data_files: entities/*.parquet
  default: true
{candidates}---

# Entities of documents

Written by LinkNER on Ray. A row of `entities/` is a document; `report.html` says what was counted.

```python
datasets.load_dataset("FOLDER")
duckdb.sql("SELECT doc_id, unnest(entities, recursive := true) FROM 'FOLDER/entities/*.parquet'")
```
"""
"""`README.md` of an output, whose head tells `datasets` which files are tables."""

_MARK = b"Written by LinkNER on Ray."
"""Stands in every such file; one without it was written by somebody else."""

_CARD_CANDIDATES = """\
- config_name: candidates
  data_files: candidates/*.parquet
"""


def describe_plan(plan: Plan) -> str:
    """Resolved config, shards and the units of the first of them, and resources."""
    resources = plan.config.resources
    lines = [
        yaml.safe_dump(plan.config.shown(), sort_keys=False).rstrip(),
        "",
        f"plan {plan.digest}, checkpoint {plan.fingerprint['checkpoint']}, labels "
        f"{' '.join(plan.label_set.ids)}",
        f"{counted(len(plan.sources), 'shard')}, "
        f"{sum(source.size for source in plan.sources):,} bytes:",
    ]
    for source in plan.sources[:LISTED_SHARDS]:
        units = count_units(source, plan.config.input)
        known = "units known when read" if units is None else counted(units, "unit")
        path = make_visible(source.shown, one_line=True)
        lines.append(f"  {path}  {source.format}  {source.size:,} bytes  {known}")
    if len(plan.sources) > LISTED_SHARDS:
        lines.append(f"  ... and {len(plan.sources) - LISTED_SHARDS} more")
    lines.append(
        f"actors: {resources.encoder_actors} encoder x {resources.encoder_cpus:g} CPU "
        f"{resources.encoder_gpus:g} GPU"
        + (
            ""
            if not plan.has_llm
            else f", {resources.llm_actors} llm x {resources.llm_cpus:g} CPU "
            f"{resources.llm_gpus:g} GPU"
        )
    )
    return "\n".join((*lines, *plan.link_note))


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Parts of a report that do not come from the run."""

    title: str = "Entities"
    seconds: Mapping[str, float] | None = None
    """Wall-clock seconds of each step; default: of the extraction alone."""

    scores: "Sequence[ReportScores]" = ()
    """Of labelled documents among the output, where there are any."""

    notes: tuple[str, ...] = ()
    """Sentences for the reader."""


def write_run_report(plan: Plan, result: "ExtractionResult", context: Context = Context()) -> None:
    """Write the reports, and what `datasets` has to know of the folder, into the output."""
    from linkner_ray.reporting.run_report import RunReport, write_report
    from linkner_ray.reporting.unit_report import UnitReport, report_units
    from linkner_ray.runs.timeline import measure_timeline

    report = RunReport(
        title=context.title,
        run_id=plan.digest,
        totals={**result.totals, **result.costs},
        labels=plan.label_set.ids,
        routing_threshold=None if plan.link_note else plan.config.routing.threshold,
        config=plan.config.shown(),
        versions={
            **installed_versions(),
            "checkpoint": plan.fingerprint["checkpoint"],
            "prompt": plan.fingerprint["prompt"],
            "llm": plan.config.llm.model or "none",
        },
        seconds=context.seconds or {"extract": result.seconds},
        per_1000_documents=_per_1000_documents(plan, result),
        units=report_units(
            UnitReport(
                name=unit_result.unit,
                source=unit_result.source,
                documents=unit_result.counts["documents_read"],
                characters=unit_result.counts["characters_total"],
                seconds=dict(unit_result.seconds),
            )
            for unit_result in result.unit_results
        ),
        timeline=measure_timeline(result.unit_results, _actors(plan)),
        scores=context.scores,
        notes=(*context.notes, *plan.link_note, *result.notes, *result.problems),
    )
    folder = RunFolder(plan.config.output.path).folder
    write_report(report, write_bytes=folder.write_whole)
    candidates = _CARD_CANDIDATES if plan.config.output.keep_candidates else ""
    if "README.md" in folder.entries() and _MARK not in folder.read_bytes("README.md"):
        url = hide_secrets(plan.config.output.path)
        logger.warning("%s/README.md is not a run's; it stays as it is", url)
        return
    folder.write_whole("README.md", _DATASET_CARD.format(candidates=candidates).encode())


def _per_1000_documents(plan: Plan, result: "ExtractionResult") -> dict[str, float]:
    """What this run took for each 1,000 of the documents that it did itself."""
    from linkner_ray.runs.bill import per_1000_documents

    return per_1000_documents(
        result.costs,
        documents=sum(r.counts["documents_read"] for r in result.unit_results if r.seconds),
        seconds=result.seconds,
        config=plan.config,
    )


def _actors(plan: Plan) -> dict[str, int]:
    """Actors that each pool of a run has from the start."""
    resources = plan.config.resources
    encoders = {"encoder": resources.encoder_actors}
    return {**encoders, "llm": resources.llm_actors} if plan.has_llm else encoders


def summarise(plan: Plan, result: "ExtractionResult") -> str:
    """A few lines for the end of a job's output."""
    from linkner_ray.runs.counters import routed_share

    totals, output = result.totals, hide_secrets(plan.config.output.path)
    if not result.has_finished:
        return f"nothing to do: {output} is complete ({counted(result.num_units, 'unit')})"
    rows = {
        "documents": f"{totals['documents_read']:,} ({totals['documents_entities']:,} with "
        f"entities, {totals['documents_empty']:,} empty, "
        f"{totals['documents_quarantined']:,} quarantined)",
        **_skipped(totals),
        "files quarantined": f"{totals['files_quarantined']:,}",
        "characters": f"{totals['characters_total']:,}",
        "candidates": f"{totals['candidates_predicted'] + totals['candidates_near_miss']:,}",
        "routed": f"{totals['routed']:,} ({routed_share(totals):.1%})",
        **_beside(totals),
        "questions": f"{totals['questions']:,}, {totals['prompt_tokens']:,} prompt tokens",
        "asked now": f"{result.costs['questions_asked']:,}, "
        f"{result.costs['prompt_tokens_asked']:,} prompt tokens; "
        f"{result.costs['questions_from_cache']:,} from the answer cache",
        **_from_previous(result.costs),
        "entities": f"{totals['entities']:,}",
        "seconds": f"{result.seconds:.1f}",
        **_bill(plan, result),
        "output": output,
        "report": f"{output.rstrip('/')}/report.html",
    }
    if plan.config.output.keep_candidates:
        rows["a document"] = f"linkner show {shlex.quote(output)} --doc ID"
    return "\n".join(f"{name:<18} {value}" for name, value in rows.items())


def _skipped(totals: Mapping[str, int]) -> dict[str, str]:
    """Documents in other languages, where there are any."""
    from linkner_ray.runs.counters import skipped_languages

    found = skipped_languages(totals)
    shown = ", ".join(f"{code} {count:,}" for code, count in [*found.items()][:LISTED_LANGUAGES])
    more = ", ..." if len(found) > LISTED_LANGUAGES else ""
    return {"other languages": f"{sum(found.values()):,} skipped ({shown}{more})"} if found else {}


def _from_previous(costs: Mapping[str, int]) -> dict[str, str]:
    """What an incremental run reused."""
    from linkner_ray.runs.previous import REUSED

    if REUSED not in costs:
        return {}
    return {
        "reused": f"{costs[REUSED]:,} documents with {costs['candidates_reused']:,} "
        f"candidates, {costs['questions_from_previous']:,} answers"
    }


def _bill(plan: Plan, result: "ExtractionResult") -> dict[str, str]:
    """What 1,000 documents took, in a line."""
    figures = _per_1000_documents(plan, result)
    if not figures:
        return {}
    price = f", a price of {figures['price']:,.2f}" if "price" in figures else ""
    return {
        "1,000 documents": f"{figures['questions']:,.0f} questions, "
        f"{figures['prompt_tokens']:,.0f} prompt tokens, {figures['seconds']:,.1f} s{price}"
    }


def _beside(totals: Mapping[str, int]) -> dict[str, str]:
    """Candidates of the other routes away from the local model, where there are any."""
    rows = {
        "same name": totals["same_name"],
        "over budget": totals["over_budget"],
        "audited": totals["audited"],
    }
    return {name: f"{count:,}" for name, count in rows.items() if count}


def installed_versions() -> dict[str, str]:
    """Versions of this package, of Ray, of Python and of the libraries that decide bytes."""
    return {
        "python": platform.python_version(),
        **versions_of(("linkner-ray", "ray", *LIBRARIES, "openai")),
    }
