"""A run of extraction: it goes on where an earlier one stopped, and ends with its manifest."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from linkner_ray.errors import ContractError
from linkner_ray.extract.limits import check_finite, problems_of
from linkner_ray.extract.pipeline import run_extraction
from linkner_ray.extract.plan import Plan, remaining
from linkner_ray.extract.progress import Progress, Show, ShowLines
from linkner_ray.llm.cache.upkeep import cache_notes
from linkner_ray.runs.code_version import code_version
from linkner_ray.runs.counters import (
    NO_COSTS,
    add_counts,
    check_counters,
)
from linkner_ray.runs.failures import remove_leftovers
from linkner_ray.runs.folder import RunFolder, UnitResult, json_digest
from linkner_ray.runs.lock import OutputLock
from linkner_ray.runs.manifest import FileEntry, read_all, written_files
from linkner_ray.runs.previous import PreviousRun
from linkner_ray.runs.shutdown import Shutdown
from linkner_ray.schemas import SCHEMA_VERSION

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionResult:
    """Result of a run."""

    unit_results: tuple[UnitResult, ...]
    """Of every unit in the output, written by this run or before."""

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


def extract(
    plan: Plan,
    *,
    previous: PreviousRun | None = None,
    progress: Callable[[str], None] = logger.info,
    show: Show | None = None,
    shutdown: Shutdown | None = None,
) -> ExtractionResult:
    """Run a plan to its end, from wherever an earlier run of it stopped.

    Args:
        plan: From `plan_extraction`.
        previous: Run from which what is known of a text is reused; the output is the same.
        progress: Called with each message.
        show: Called with the progress every few seconds; default: a line for `progress`.
        shutdown: Given what to do at SIGTERM.

    Raises:
        ConfigError: If the output folder belongs to another run or code, or another run is
            writing into it.
        ContractError: If documents or characters do not add up.
        LockLostError: If another run took the output over while this one hung.
        StartupError: If the local model computes no number for too many documents.
        LinknerError: What a stage raised.
    """
    started = time.perf_counter()
    run = RunFolder(plan.config.output.path)
    run.check(plan.fingerprint)
    unit_results = run.unit_results()
    if run.is_complete and not remaining(plan, unit_results, run.url):
        return _result(plan, unit_results, started=started)
    lock = OutputLock(
        run.folder, url=run.url, timeout_s=plan.config.output.lock_timeout_s, say=progress
    )
    unit_results.clear()
    if shutdown is not None:
        shutdown.end = partial(_stop, run.url, lock, unit_results)
    with lock:
        return _extract_alone(
            plan,
            lock,
            unit_results,
            previous=previous,
            started=started,
            say=progress,
            show=show or ShowLines(progress),
        )


def _stop(output: str, lock: OutputLock, unit_results: Sequence[UnitResult]) -> str:
    """Release the output at SIGTERM; returns the last message."""
    lock.release()
    return (
        f"stopped by SIGTERM: {len(unit_results)} units are done and stay in {output}; the same "
        "command goes on from there"
    )


def _extract_alone(  # noqa: PLR0913 - those of `extract`, and what it found
    plan: Plan,
    lock: OutputLock,
    unit_results: list[UnitResult],
    *,
    previous: PreviousRun | None,
    started: float,
    say: Callable[[str], None],
    show: Show,
) -> ExtractionResult:
    """The work of `extract` under the lock; `unit_results` grows with every unit."""
    config = plan.config
    run = RunFolder(config.output.path)
    run.begin(
        {
            "plan": plan.fingerprint,
            "config": config.model_dump(mode="json"),
            "label_set": plan.label_set.model_dump(mode="json"),
            "code": code_version(),
        }
    )
    run.abort_uploads()
    done = run.unit_results()
    remove_leftovers(run, done)
    unit_results += done
    files: list[FileEntry] = []
    todo = remaining(plan, done, run.url)
    if todo:
        say(f"{len(plan.sources)} shards, {len(plan.sources) - len(todo)} of them done before")
        units = run_extraction(
            config,
            plan_digest=plan.digest,
            label_set=plan.label_set,
            todo=todo,
            sources=plan.sources,
            previous=previous,
        )
        with Progress(show, shards=len(todo)) as tracker:
            for unit_result in units:
                unit_results.append(unit_result)
                files += [FileEntry(**file) for file in unit_result.files]
                tracker.add(unit_result)
                lock.check()
                check_finite(tracker.totals, config.errors, has_ended=False)
    if len({unit_result.unit for unit_result in unit_results}) != len(unit_results):
        raise ContractError(f"{run.url}: a unit was written twice in one run")
    if missing := [source.path for source, _ in remaining(plan, unit_results, run.url)]:
        raise ContractError(
            f"{run.url}: {len(missing)} shards were not read to their end, such as {missing[0]}"
        )
    known = {file.path for file in files}
    unknown = [path for path in written_files(run.folder) if path not in known]
    files += read_all(run.folder, unknown)
    result = _result(plan, unit_results, done=len(done), started=started, has_finished=True)
    check_finite(result.totals, config.errors, has_ended=True)
    lock.confirm()
    run.finish(unit_results, files, _manifest_header(plan, result.totals))
    return result


def _manifest_header(plan: Plan, totals: dict[str, int]) -> dict[str, Any]:
    """The manifest without its files; interruptions of the run leave no trace in it."""
    named = {name: plan.fingerprint[name] for name in ("checkpoint", "prompt", "label_set")}
    return {
        "schema_version": SCHEMA_VERSION,
        "digests": {
            "plan": plan.digest,
            "config": json_digest(plan.fingerprint["config"]),
            **named,
        },
        "code": code_version(),
        "plan": plan.fingerprint,
        "sources": [asdict(source) for source in plan.sources],
        "totals": totals,
    }


def _result(
    plan: Plan,
    unit_results: Sequence[UnitResult],
    *,
    started: float,
    done: int | None = None,
    has_finished: bool = False,
) -> ExtractionResult:
    """Sums over all units, once they are known to add up.

    Args:
        plan: Of the run.
        unit_results: Of every unit in the output.
        started: On `time.perf_counter`.
        done: Units that were there before; default: all.
        has_finished: Whether this run finishes the output.
    """
    totals: dict[str, int] = {}
    costs = dict(NO_COSTS)
    for unit_result in unit_results:
        totals = add_counts(totals, unit_result.counts)
        costs = add_counts(costs, unit_result.costs)
    check_counters(totals)
    return ExtractionResult(
        unit_results=tuple(unit_results),
        units_written=0 if done is None else len(unit_results) - done,
        totals=totals,
        costs=costs,
        has_finished=has_finished,
        seconds=time.perf_counter() - started,
        notes=tuple(cache_notes(plan.config.cache)),
        problems=problems_of(totals, plan.config.errors),
    )
