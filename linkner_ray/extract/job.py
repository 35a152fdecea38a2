"""A run of extraction: it goes on where an earlier one stopped, and ends with its manifest."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from linkner_ray.errors import ContractError, counted
from linkner_ray.extract.first_units import FirstUnits
from linkner_ray.extract.limits import LanguageWatch, check_finite
from linkner_ray.extract.pipeline import run_extraction
from linkner_ray.extract.plan import Plan, describe_models, remaining
from linkner_ray.extract.progress import LineView, Progress, View
from linkner_ray.extract.result import ExtractionResult, find_finished, sum_results
from linkner_ray.extract.spread import BySize
from linkner_ray.runs.code_version import code_version
from linkner_ray.runs.failures import remove_leftovers
from linkner_ray.runs.folder import RunFolder, UnitResult, json_digest
from linkner_ray.runs.lock import OutputLock
from linkner_ray.runs.manifest import FileEntry, FileList, read_entries, written_files
from linkner_ray.runs.part_work import pieces_of
from linkner_ray.runs.previous import PreviousRun
from linkner_ray.runs.shutdown import Shutdown
from linkner_ray.schemas import SCHEMA_VERSION

logger = logging.getLogger(__name__)


def extract(
    plan: Plan,
    *,
    previous: PreviousRun | None = None,
    view: View = LineView(logger.info),  # noqa: B008 - holds nothing
    shutdown: Shutdown | None = None,
) -> ExtractionResult:
    """Run a plan to its end, from wherever an earlier run of it stopped.

    What an earlier run, `previous`, knows of a text is reused; the output is the same. `shutdown`
    is given what to do at a signal.

    Raises:
        ConfigError: If the output folder belongs to another run or code, or another run is
            writing into it.
        ContractError: If documents or characters do not add up.
        LockLostError: If another run took the output over while this one hung.
        StartupError: If the local model computes no number for too many documents.
        LinknerError: What a stage raised.
    """
    started = time.perf_counter()
    finished = find_finished(plan)
    if finished is not None:
        return finished
    run = RunFolder(plan.config.output.path)
    unit_results: list[UnitResult] = []
    timeout_s = plan.config.output.lock_timeout_s
    lock = OutputLock(run.folder, url=run.url, timeout_s=timeout_s, say=view.say)
    if shutdown is not None:
        shutdown.end = partial(_stop, run.url, lock, unit_results)
    with lock:
        return _extract_alone(
            plan, lock, unit_results, previous=previous, started=started, view=view
        )


def _stop(output: str, lock: OutputLock, unit_results: Sequence[UnitResult]) -> str:
    """Release the output at a signal; says how to go on."""
    lock.release()
    return (
        f"{counted(len(unit_results), 'unit')} done, kept in {output}; the same command goes on "
        "from there"
    )


def _extract_alone(  # noqa: PLR0913 - those of `extract`, and what it found
    plan: Plan,
    lock: OutputLock,
    unit_results: list[UnitResult],
    *,
    previous: PreviousRun | None,
    started: float,
    view: View,
) -> ExtractionResult:
    """The work of `extract` under the lock; `unit_results` grows with every unit."""
    config = plan.config
    run = RunFolder(config.output.path)
    run.begin(_run_record(plan))
    run.abort_uploads()
    done = run.unit_results(spread=BySize())
    remove_leftovers(run, done)
    unit_results += done
    files = FileList()
    languages = LanguageWatch(plan.languages)
    todo = remaining(plan, done, run.url)
    if todo:
        before = len(plan.sources) - len(todo)
        done_before = f", {before} of them done before" if before else ""
        loading = describe_models(plan, when_needed=previous is not None)
        view.say(f"{counted(len(plan.sources), 'shard')}{done_before}; loading {loading}")
        units = run_extraction(
            config,
            plan_digest=plan.digest,
            label_set=plan.label_set,
            todo=todo,
            sources=plan.sources,
            previous=previous,
        )
        with Progress(view, shards=len(todo)) as tracker:
            first_units = FirstUnits(plan, view.say)
            for unit_result in units:
                unit_results.append(replace(unit_result, files=()))
                files.add(FileEntry(**file) for file in unit_result.files)
                tracker.add(unit_result)
                first_units.add(unit_result)
                lock.check()
                languages.look(tracker.totals, has_ended=False)
                check_finite(tracker.totals, config.errors, has_ended=False)
    _check_all_is_there(plan, unit_results, run.url)
    unknown = pieces_of(files.without(written_files(run.folder)))
    for entries in BySize().each(partial(read_entries, run.folder), unknown):
        files.add(entries)
    result = sum_results(plan, unit_results, done=len(done), started=started, has_finished=True)
    check_finite(result.totals, config.errors, has_ended=True)
    languages.look(result.totals, has_ended=True)
    lock.confirm()
    plan_digest = plan.digest
    sources = {source.digest(plan_digest): source for source in plan.sources}
    run.finish(unit_results, files, _manifest_header(plan, result.totals), sources=sources)
    return result


def _check_all_is_there(plan: Plan, unit_results: Sequence[UnitResult], output: str) -> None:
    if len({unit_result.unit for unit_result in unit_results}) != len(unit_results):
        raise ContractError(f"{output}: a unit was written twice in one run")
    if missing := [source.path for source, _ in remaining(plan, unit_results, output)]:
        raise ContractError(
            f"{output}: not read to the end: {counted(len(missing), 'shard')}, such as {missing[0]}"
        )


def _run_record(plan: Plan) -> dict[str, Any]:
    """What `_run.json` says."""
    return {
        "plan": plan.fingerprint,
        "config": plan.config.shown(),
        "label_set": plan.label_set.model_dump(mode="json"),
        "code": code_version(),
    }


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
        "sources": {
            "count": len(plan.sources),
            "bytes": sum(source.size for source in plan.sources),
        },
        "totals": totals,
    }
