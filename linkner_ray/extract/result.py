"""The result of an extraction, summed over its units; of a finished run it is known without Ray."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from linkner_ray.extract.limits import other_languages, problems_of
from linkner_ray.extract.plan import Plan, remaining
from linkner_ray.extract.spread import BySize
from linkner_ray.llm.cache.upkeep import cache_notes
from linkner_ray.runs.counters import NO_COSTS, add_counts, check_counters
from linkner_ray.runs.folder import RunFolder, UnitResult
from linkner_ray.runs.manifest import read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionResult:
    """Result of a run."""

    unit_results: tuple[UnitResult, ...]
    """Of every unit in the output, written by this run or before; empty where the run had ended
    before and they were not asked for."""

    num_units: int
    units_written: int
    """Units this run wrote; 0 when the output was complete before."""

    totals: dict[str, int]
    costs: dict[str, int]
    """Sum of the unit results' `costs`: what this run asked and reused. `totals` are the same in
    every run over the same documents."""

    seconds: float
    has_finished: bool = False
    """Whether this run wrote `_SUCCESS`, even if all units were done before."""

    notes: tuple[str, ...] = ()
    """Sentences for the report, such as damaged files of the answer cache."""

    problems: tuple[str, ...] = field(default=())
    """Error limits that were passed; a job with any exits 3."""


def find_finished(plan: Plan, *, with_units: bool = False) -> ExtractionResult | None:
    """The result of a run that ended before; None if there is work left.

    Unit results are read, from each part file, only if they are asked for.

    Raises:
        ConfigError: If the output folder belongs to another run, or shards have changed.
    """
    started = time.perf_counter()
    run = RunFolder(plan.config.output.path)
    run.check(plan.fingerprint)
    if not run.is_complete:
        return None
    manifest = read_manifest(run.folder)
    if not with_units and [*manifest.parts] == run.folder.names("entities", "part-*.parquet"):
        # A finished run has read its shards to their ends, and units are called by their shard.
        plan_digest = plan.digest
        wanted = {source.digest(plan_digest) for source in plan.sources}
        found = {part.split("-")[1] for part in manifest.parts}
        if found < wanted:
            return None
        if found == wanted:
            totals = dict(manifest.header["totals"])
            return _result(plan, totals, num_units=len(manifest.parts), started=started)
    unit_results = run.unit_results(spread=BySize())
    if remaining(plan, unit_results, run.url):
        return None
    return sum_results(plan, unit_results, started=started)


def sum_results(
    plan: Plan,
    unit_results: Sequence[UnitResult],
    *,
    started: float,
    done: int | None = None,
    has_finished: bool = False,
) -> ExtractionResult:
    """Sums over all units, of which `done` were there before (default: all), if they add up."""
    totals: dict[str, int] = {}
    costs = dict(NO_COSTS)
    for unit_result in unit_results:
        add_counts(totals, unit_result.counts)
        add_counts(costs, unit_result.costs)
    check_counters(totals)
    return replace(
        _result(plan, totals, num_units=len(unit_results), started=started),
        unit_results=tuple(unit_results),
        units_written=0 if done is None else len(unit_results) - done,
        costs=costs,
        has_finished=has_finished,
    )


def _result(
    plan: Plan, totals: dict[str, int], *, num_units: int, started: float
) -> ExtractionResult:
    """The result of a run that found all units done."""
    languages = other_languages(totals, plan.languages)
    return ExtractionResult(
        unit_results=(),
        num_units=num_units,
        units_written=0,
        totals=totals,
        costs=dict(NO_COSTS),
        seconds=time.perf_counter() - started,
        notes=(*cache_notes(plan.config.cache), *([] if languages is None else [languages])),
        problems=problems_of(totals, plan.config.errors),
    )
