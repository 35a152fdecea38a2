"""A run of extraction: plan it, go on where it stopped, finish it, report it."""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Self

from linkner_ray.config import ErrorsConfig, ExtractConfig, LlmConfig
from linkner_ray.demonstration_source import corpus_digest, fixed_demonstrations
from linkner_ray.errors import ConfigError, ContractError
from linkner_ray.labels import LabelSet
from linkner_ray.llm.context import Question
from linkner_ray.llm.ledger_upkeep import describe_faults, tidy
from linkner_ray.llm.model_identity import known_content
from linkner_ray.llm.prompts import SYMBOL_ALPHABETS, Questionnaire, choose_symbols
from linkner_ray.pipeline import run_extraction
from linkner_ray.readers import check_first_source, list_sources
from linkner_ray.runs.accounts import add_counts, check_accounts, num_asked, num_failed
from linkner_ray.runs.code_version import code_version
from linkner_ray.runs.failures import remove_leftovers
from linkner_ray.runs.folder import Receipt, RunFolder, plan_digest
from linkner_ray.runs.lock import OutputLock
from linkner_ray.runs.manifest import FileFacts, read_all, written_files
from linkner_ray.runs.previous import PreviousRun
from linkner_ray.runs.units import Source
from linkner_ray.schemas import SCHEMA_VERSION
from linkner_ray.spanner.checkpoint import (
    calibration_digest,
    checkpoint_digest,
    encoder_digest,
    local_checkpoint,
    read_parts,
)
from linkner_ray.stopping import Stopping

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do, settled before anything starts."""

    config: ExtractConfig
    label_set: LabelSet
    facts: dict[str, Any]
    """What decides the output; a folder belongs to one such set of facts."""

    sources: tuple[Source, ...]

    @property
    def digest(self) -> str:
        """Name of `facts`."""
        return plan_digest(self.facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionResult:
    """What came of a run."""

    receipts: tuple[Receipt, ...]
    """Of every unit in the output, this run's and those found done."""

    units_written: int
    """Units this run wrote; 0 when the output was complete before."""

    totals: dict[str, int]
    effort: dict[str, int]
    """Sum of the receipts' `effort`: what the answers took in this run, which `totals` do not say,
    since they are the same in every run."""

    seconds: float
    has_finished: bool = False
    """Whether this run wrote `_SUCCESS`, be it over units that were all done before."""

    notes: tuple[str, ...] = ()
    """Sentences for the report, such as what was not trusted of the ledger."""

    problems: tuple[str, ...] = field(default=())
    """Error limits that were passed; a job with any exits 3."""


def plan_extraction(config: ExtractConfig) -> Plan:
    """List the shards and settle what decides the output.

    Raises:
        ConfigError: If a path matches nothing, the first shard lacks the text column, or there is
            no checkpoint.
    """
    if not config.recognize.checkpoint:
        raise ConfigError("recognize.checkpoint is not set; give a folder written by `train`")
    label_set = read_parts(local_checkpoint(config.recognize.checkpoint)).label_set
    sources = tuple(list_sources(config.input))
    check_first_source(sources[0], config.input)
    deciding = config.model_dump(
        mode="json",
        include={
            "input": {
                "text_column", "id_column", "url_column", "lang_column",
                "unit_documents", "unit_chars", "max_document_chars",
            },
            "sentences": True,
            "recognize": {
                "uncertainty", "doubted_floor", "max_doubted", "certain_confidence",
                "dropout_samples", "dropout_scope", "dtype", "batch_scope", "seed",
            },
            "routing": True,
            "llm": {
                **dict.fromkeys((
                    "backend", "model", "revision", "context_sentences", "max_context_chars",
                    "dtype", "max_model_len", "option_order", "num_option_orders", "seed",
                    "answer_form",
                ), True),
                "demonstrations": {"kind", "format", "per_class", "count", "encoder"},
            },
            "fusion": True,
            "output": {"keep_text", "keep_candidates"},
            "errors": {"raw_chars"},
        },
    )  # fmt: skip
    config.routing.check_labels(label_set.ids)
    facts: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "demonstrations": corpus_digest(config.llm),
        "prompt": _prompt_digest(config.llm, label_set),
        "checkpoint": checkpoint_digest(config.recognize.checkpoint),
        "encoder": encoder_digest(config.recognize.checkpoint),
        "calibration": calibration_digest(config.recognize.checkpoint),
        "labels": list(label_set.ids),
        "label_set": label_set.digest,
        "llm": known_content(config.llm),
        "config": deciding,
    }
    if config.routing.max_calls is not None:
        # What a unit may ask depends on all shards, so shards that come later are another plan.
        facts["budget_over"] = _sizes_digest(sources)
    return Plan(config=config, label_set=label_set, facts=facts, sources=sources)


def _sizes_digest(sources: Sequence[Source]) -> str:
    """Name of the shards and their sizes."""
    return _digest([(source.path, source.size) for source in sources])


def _prompt_digest(config: LlmConfig, label_set: LabelSet) -> str:
    """Name of what every question has in common: changes with any word of the prompt."""
    count = len(label_set.classes)
    may_choose = config.backend == "vllm" and config.answer_form == "auto"
    by_name = config.answer_form == "choice" or (may_choose and count > len(SYMBOL_ALPHABETS[0]))
    symbols = () if by_name else choose_symbols(count)
    questionnaire = Questionnaire.from_config(config, label_set, symbols, decoding="")
    fixed = fixed_demonstrations(config, label_set)
    request = questionnaire.request(Question("Ada", 0, 3), fixed=fixed)
    messages = [variant.messages for variant in (request, *request.variants)]
    return hashlib.blake2b(repr(messages).encode(), digest_size=8).hexdigest()


def extract(
    plan: Plan,
    *,
    previous: PreviousRun | None = None,
    progress: Callable[[str], None] = logger.info,
    stopping: Stopping | None = None,
) -> ExtractionResult:
    """Run a plan to its end, from wherever an earlier run of it stopped.

    Args:
        plan: From `plan_extraction`.
        previous: Run from which what is known of a text is taken over; the output does not tell.
        progress: Called with a line every few seconds.
        stopping: Told how to end when SIGTERM comes.

    Raises:
        ConfigError: If the output folder belongs to another run or code, or another run is
            writing into it.
        ContractError: If documents or characters do not add up.
        LockLostError: If another run took the output over while this one hung.
        LinknerError: What a stage raised.
    """
    started = time.perf_counter()
    run = RunFolder(plan.config.output.path)
    run.check(plan.facts)
    receipts = run.receipts()
    if run.is_complete and not remaining(plan, receipts, run.url):
        return _result(plan, receipts, started=started)
    lock = OutputLock(
        run.folder, url=run.url, timeout_s=plan.config.output.lock_timeout_s, say=progress
    )
    receipts.clear()
    if stopping is not None:
        stopping.end = partial(_stop, run.url, lock, receipts)
    with lock:
        return _extract_alone(
            plan, lock, receipts, previous=previous, started=started, progress=progress
        )


def _stop(output: str, lock: OutputLock, receipts: Sequence[Receipt]) -> str:
    """Let the output go in the middle of a run."""
    lock.release()
    return (
        f"stopped by SIGTERM: {len(receipts)} units are done and stay in {output}; the same "
        "command goes on from there"
    )


def _extract_alone(  # noqa: PLR0913 - those of `extract`, and what it found
    plan: Plan,
    lock: OutputLock,
    receipts: list[Receipt],
    *,
    previous: PreviousRun | None,
    started: float,
    progress: Callable[[str], None],
) -> ExtractionResult:
    """The work of `extract` by the one who holds the lock; `receipts` grow with every unit."""
    config = plan.config
    run = RunFolder(config.output.path)
    run.begin(
        {
            "plan": plan.facts,
            "config": config.model_dump(mode="json"),
            "label_set": plan.label_set.model_dump(mode="json"),
            "code": code_version(),
        }
    )
    run.abort_uploads()
    done = run.receipts()
    remove_leftovers(run, done)
    receipts += done
    files: list[FileFacts] = []
    todo = remaining(plan, done, run.url)
    if todo:
        progress(f"{len(plan.sources)} shards, {len(plan.sources) - len(todo)} of them done before")
        tidy(config.ledger)
        units = run_extraction(
            config,
            plan_digest=plan.digest,
            label_set=plan.label_set,
            todo=todo,
            sources=plan.sources,
            previous=previous,
        )
        with _Progress(progress, shards=len(todo)) as tracker:
            for receipt in units:
                receipts.append(receipt)
                files += [FileFacts(**file) for file in receipt.files]
                tracker.add(receipt)
                lock.check()
    if len({receipt.unit for receipt in receipts}) != len(receipts):
        raise ContractError(f"{run.url}: a unit was written twice in one run")
    if missing := [source.path for source, _ in remaining(plan, receipts, run.url)]:
        raise ContractError(
            f"{run.url}: {len(missing)} shards were not read to their end, such as {missing[0]}"
        )
    known = {file.path for file in files}
    unknown = [path for path in written_files(run.folder) if path not in known]
    files += read_all(run.folder, unknown)
    result = _result(plan, receipts, done=len(done), started=started, has_finished=True)
    lock.confirm()
    run.finish(receipts, files, _manifest_facts(plan, result.totals))
    return result


def _manifest_facts(plan: Plan, totals: dict[str, int]) -> dict[str, Any]:
    """What the manifest says besides its files; the same however often the run was interrupted."""
    named = {name: plan.facts[name] for name in ("checkpoint", "prompt", "label_set")}
    return {
        "schema_version": SCHEMA_VERSION,
        "digests": {"plan": plan.digest, "config": _digest(plan.facts["config"]), **named},
        "code": code_version(),
        "plan": plan.facts,
        "sources": [asdict(source) for source in plan.sources],
        "totals": totals,
    }


def _digest(facts: Any) -> str:  # noqa: ANN401 - any JSON value
    """Name of a value."""
    canonical = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def _result(
    plan: Plan,
    receipts: Sequence[Receipt],
    *,
    started: float,
    done: int | None = None,
    has_finished: bool = False,
) -> ExtractionResult:
    """Sums over all units, once they are known to add up.

    Args:
        plan: Of the run.
        receipts: Of every unit in the output.
        started: On `time.perf_counter`.
        done: Units that were there before; default: all.
        has_finished: Whether this run finishes the output.
    """
    totals: dict[str, int] = {}
    effort: dict[str, int] = {}
    for receipt in receipts:
        totals = add_counts(totals, receipt.counts)
        effort = add_counts(effort, receipt.effort)
    check_accounts(totals)
    return ExtractionResult(
        receipts=tuple(receipts),
        units_written=0 if done is None else len(receipts) - done,
        totals=totals,
        effort=effort,
        has_finished=has_finished,
        seconds=time.perf_counter() - started,
        notes=tuple(describe_faults(plan.config.ledger)),
        problems=_problems(totals, plan.config.errors),
    )


def remaining(plan: Plan, done: Sequence[Receipt], output: str) -> list[tuple[Source, list[int]]]:
    """Shards with work left, each with the first records of its finished units."""
    finished: dict[str, list[Receipt]] = {}
    for receipt in done:
        finished.setdefault(receipt.source_digest, []).append(receipt)
    todo = []
    for source in plan.sources:
        receipts = finished.pop(source.digest(plan.digest), [])
        if not _covers_shard(receipts):
            todo.append((source, sorted(receipt.first_record for receipt in receipts)))
    if finished:
        gone = sorted({receipts[0].source for receipts in finished.values()})
        raise ConfigError(
            f"{output} holds entities of shards that have changed or are no longer in the input: "
            f"{', '.join(gone[:5])}{' ...' if len(gone) > 5 else ''}; choose another output.path, "
            f"or, if they had failures and were repaired, run `linkner failures requeue {output}`"
        )
    return todo


def _covers_shard(receipts: Sequence[Receipt]) -> bool:
    """Whether finished units reach from the first record of a shard to its end without a gap."""
    expected = 0
    for receipt in sorted(receipts, key=lambda receipt: receipt.first_record):
        if receipt.first_record != expected:
            return False
        if receipt.is_last:
            return True
        expected += receipt.num_records
    return False


class _Progress:
    """A line every few seconds, also while nothing is finished: models take their time to load."""

    def __init__(self, write: Callable[[str], None], *, shards: int) -> None:
        self._write, self._shards = write, shards
        self._started = time.monotonic()
        self._finished_shards = 0
        self._totals: dict[str, int] = {}
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()
        self._write(self._line())

    def add(self, receipt: Receipt) -> None:
        """Count a unit."""
        self._totals = add_counts(self._totals, receipt.counts)
        self._finished_shards += receipt.is_last

    def _tick(self) -> None:
        while not self._ended.wait(PROGRESS_INTERVAL_S):
            self._write(self._line())

    def _line(self) -> str:
        seconds = time.monotonic() - self._started
        if not self._totals:
            return f"{seconds:.0f} s, starting actors and loading models"
        documents = self._totals["documents_read"]
        return (
            f"{seconds:.0f} s, {self._finished_shards}/{self._shards} shards, {documents} documents"
            f" ({documents / seconds:.1f}/s), {self._totals['entities']} entities, "
            f"{self._totals['questions']} questions"
        )


def _problems(totals: dict[str, int], limits: ErrorsConfig) -> tuple[str, ...]:
    problems = []
    documents = totals["documents_read"]
    quarantined = totals["documents_quarantined"]
    if quarantined > limits.max_share * documents:
        problems.append(
            f"{quarantined} of {documents} documents are quarantined, over errors.max_share = "
            f"{limits.max_share:g}; see _quarantine/"
        )
    files = totals["files_quarantined"]
    if files > limits.max_failed_files:
        problems.append(
            f"{files} files could not be read to their end, over errors.max_failed_files = "
            f"{limits.max_failed_files}; see _quarantine/"
        )
    asked, failed = num_asked(totals), num_failed(totals)
    if failed > limits.max_failed_answers_share * asked:
        problems.append(
            f"{failed} of {asked} spans that were asked about got no answer, over "
            f"errors.max_failed_answers_share = {limits.max_failed_answers_share:g}; their local "
            "labels stand"
        )
    return tuple(problems)
