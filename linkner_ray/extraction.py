"""A run of extraction: plan it, go on where it stopped, finish it, report it."""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
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
from linkner_ray.runs.failures import remove_leftovers
from linkner_ray.runs.folder import Receipt, RunFolder, plan_digest
from linkner_ray.runs.units import Source
from linkner_ray.schemas import SCHEMA_VERSION
from linkner_ray.spanner.checkpoint import checkpoint_digest, local_checkpoint, read_parts

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
                "dropout_samples", "seed",
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
    content = json.dumps([(source.path, source.size) for source in sources])
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


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


def extract(plan: Plan, *, progress: Callable[[str], None] = logger.info) -> ExtractionResult:
    """Run a plan to its end, from wherever an earlier run of it stopped.

    Args:
        plan: From `plan_extraction`.
        progress: Called with a line every few seconds.

    Raises:
        ConfigError: If the output folder belongs to another run.
        ContractError: If documents or characters do not add up.
        LinknerError: What a stage raised.
    """
    started = time.perf_counter()
    config = plan.config
    run = RunFolder(config.output.path)
    run.begin(
        {
            "plan": plan.facts,
            "config": config.model_dump(mode="json"),
            "label_set": plan.label_set.model_dump(mode="json"),
        }
    )
    done = run.receipts()
    remove_leftovers(run, done)
    todo = remaining(plan, done, config.output.path)
    receipts = list(done)
    if todo:
        progress(f"{len(plan.sources)} shards, {len(plan.sources) - len(todo)} of them done before")
        tidy(config.ledger)
        units = run_extraction(
            config,
            plan_digest=plan.digest,
            label_set=plan.label_set,
            todo=todo,
            sources=plan.sources,
        )
        with _Progress(progress, shards=len(todo)) as tracker:
            for receipt in units:
                receipts.append(receipt)
                tracker.add(receipt)
    if len({receipt.unit for receipt in receipts}) != len(receipts):
        raise ContractError(f"{config.output.path}: a unit was written twice in one run")
    if missing := [source.path for source, _ in remaining(plan, receipts, run.url)]:
        raise ContractError(
            f"{run.url}: {len(missing)} shards were not read to their end, such as {missing[0]}"
        )
    totals: dict[str, int] = {}
    effort: dict[str, int] = {}
    for receipt in receipts:
        totals = add_counts(totals, receipt.counts)
        effort = add_counts(effort, receipt.effort)
    check_accounts(totals)
    if todo or not run.is_complete:
        run.finish(
            receipts,
            {
                "plan": plan.facts,
                "sources": [asdict(source) for source in plan.sources],
                "totals": totals,
            },
        )
    return ExtractionResult(
        receipts=tuple(receipts),
        units_written=len(receipts) - len(done),
        totals=totals,
        effort=effort,
        seconds=time.perf_counter() - started,
        notes=tuple(describe_faults(config.ledger)),
        problems=_problems(totals, config.errors),
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
