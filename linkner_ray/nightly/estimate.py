"""`linkner estimate`: what a run would find, ask and take, from a sample of its input.

The sample goes through the stages of a run, here and without Ray, up to the question that would be
asked. A shard's sample stands for the shard, the sampled shards by their bytes for all.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import ExtractConfig, LlmConfig
from linkner_ray.extract.limits import check_finite
from linkner_ray.extract.plan import Plan
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import (
    engine_start,
    open_cache,
    start_backend,
)
from linkner_ray.llm.backends.forms import decoding_of, usual_symbols
from linkner_ray.llm.chat import PromptEncoder
from linkner_ray.llm.prompts import Answer, Request, Verdict
from linkner_ray.readers.sampling import ShardSample, draw_sample
from linkner_ray.schemas import ASKED_ROUTES
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.route_spans import RouteSpans
from linkner_ray.stages.unit import NOT_FINITE

THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)

CHARS_PER_TOKEN = 4
"""Of an LLM whose tokenizer is not at hand."""

MEASURED_REQUESTS = 256
"""Requests by which an LLM's speed is measured."""

IsKnown = Callable[[Sequence[str]], Sequence[bool]]
"""Whether the replies to requests of these keys are at hand already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """What to look at, and what to take as given."""

    documents: int = 200
    """Documents of the sample, or a few more, spread over the shards."""

    thresholds: tuple[float, ...] = THRESHOLDS
    """Thresholds to compare, besides the config's own."""

    requests_per_s: float | None = None
    """What one engine answers in a second; None for `routing.requests_per_s`, if that is set."""

    measure_llm: bool = False
    """Whether to start the LLM and measure it instead."""

    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdEstimate:
    """What a run at one threshold would ask; counts are of the whole input."""

    threshold: float
    routed: int
    """Candidates from the threshold up."""

    audited: int
    routed_share: float
    """Routed candidates as a share of all, in [0, 1]."""

    asked: int
    """Routed and audited candidates as far as `routing.budget` goes."""

    questions: int
    """Distinct questions among the asked; those in the sample of one shard are told apart."""

    known: int | None
    """Questions whose reply is at hand; None if nobody was there to say."""

    prompt_tokens: int
    """Of the questions whose reply is not at hand."""

    llm_hours: float | None
    """Hours of all engines at work together; None without a rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """What a run would find and take; counts are of the whole input unless named otherwise."""

    sampled_documents: int
    sampled_shards: int
    shards: int
    documents: int
    characters: int
    words: int
    candidates: int
    words_per_s: float
    """Of Recognition in this process."""

    encoder_hours: float
    """Hours of all encoder actors at work together, each at the speed of this process."""

    requests_per_s: float | None
    """Of one engine."""

    tokens_are_exact: bool
    """Whether prompt tokens come from the LLM's tokenizer, or from characters / 4."""

    rows: tuple[ThresholdEstimate, ...]


class _Recorder:
    """A backend that answers nothing and says how long each prompt is."""

    def __init__(self, config: LlmConfig, label_set: LabelSet) -> None:
        count = len(label_set.classes)
        self.symbols = usual_symbols(config, count)
        self.requests: list[Request] = []
        self._encoder: PromptEncoder | None = None
        if config.model and Path(config.model).is_dir():  # "" would be the working directory
            tokenizer = engine_start.load_tokenizer(config)
            self._encoder = PromptEncoder(tokenizer, name=config.model)
            if config.backend == "vllm":
                chosen = engine_start.choose_answer_symbols(config, self._encoder, count)
                self.symbols = chosen.symbols
        self.decoding = decoding_of(config.backend, by_name=not self.symbols)

    @property
    def is_exact(self) -> bool:
        """Whether prompts are measured by the LLM's own tokenizer."""
        return self._encoder is not None

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """No answers, with the tokens of each prompt."""
        self.requests.extend(requests)
        return [
            Answer(verdict=Verdict.FAILED, key=request.key, prompt_tokens=self._num_tokens(request))
            for request in requests
        ]

    def _num_tokens(self, request: Request) -> int:
        if request.variants:
            return sum(map(self._num_tokens, request.variants))
        if self._encoder is not None:
            return len(
                self._encoder.encode(
                    request.fixed_part,
                    request.user_message,
                    demonstrations=request.fixed_demonstrations,
                )
            )
        characters = sum(len(content) for _, content in request.messages)
        return math.ceil(characters / CHARS_PER_TOKEN)

    def describe(self) -> dict[str, str | int]:
        """What it is."""
        return {"backend": "recorder", "requests": len(self.requests)}

    def close(self) -> None:
        """Nothing to free."""


def estimate_run(
    plan: Plan, settings: SampleSettings, *, is_known: IsKnown | None = None
) -> RunEstimate:
    """Run a sample of the input through Recognition and see what would be asked.

    Args:
        plan: What would be run.
        settings: What to look at.
        is_known: Looks up replies that are at hand, such as in an answer cache.

    Raises:
        StartupError: If the checkpoint, the LLM's tokenizer or, to be measured, the LLM do not
            load, or the local model computes no number for more documents than `errors` allows.
    """
    config = plan.config
    recorder = _Recorder(config.llm, plan.label_set)
    # Whatever may be asked about gets an answer, and so the key of its question.
    anything = config.routing.model_copy(update={"threshold": 0.0, "budget": None})
    chain = replace(Chain.of(config, plan.label_set), routing=anything, has_llm=True)
    steps = (
        chain.split_step(),
        chain.recognize_step(chain.load_recognizer()),
        chain.classify_step(recorder),
    )
    samples, seconds, lost = [], 0.0, 0
    for sample in draw_sample(
        plan.sources, config.input, documents=settings.documents, seed=settings.seed
    ):
        [unit] = chain.units_at_hand([sample.table])
        for step in steps:
            step(unit)
        lost += unit.quarantine.num_rows
        seconds += unit.seconds["RecognizeSpans"]
        samples.append(replace(sample, table=unit.documents))
    read = lost + sum(sample.table.num_rows for sample in samples)
    counts = {"documents_read": read, f"quarantine_{NOT_FINITE}": lost}
    check_finite(counts, config.errors, has_ended=True)
    sampled_words = sum(_num_words(sample.table) for sample in samples)
    words_per_s = sampled_words / seconds if seconds else 0.0
    requests_per_s = settings.requests_per_s or config.routing.requests_per_s
    if settings.measure_llm:
        requests_per_s = _measure(config.llm, plan.label_set, recorder.requests)
    words = _total(samples, _num_words)
    actors = config.resources.encoder_actors
    thresholds = sorted({*settings.thresholds, config.routing.threshold})
    return RunEstimate(
        sampled_documents=sum(sample.table.num_rows for sample in samples),
        sampled_shards=len(samples),
        shards=len(plan.sources),
        documents=_total(samples, lambda table: table.num_rows),
        characters=_total(samples, _num_chars),
        words=words,
        candidates=_total(samples, _num_candidates),
        words_per_s=words_per_s,
        encoder_hours=words / words_per_s / actors / 3600 if words_per_s else 0.0,
        requests_per_s=requests_per_s,
        tokens_are_exact=recorder.is_exact,
        rows=tuple(
            _at_threshold(
                samples, config, threshold, requests_per_s=requests_per_s, is_known=is_known
            )
            for threshold in thresholds
        ),
    )


def known_answers(config: ExtractConfig, label_set: LabelSet) -> IsKnown | None:
    """Looks questions up in the answer cache of a config; None where it has none.

    Raises:
        StartupError: If the answer cache cannot be read.
    """
    if not config.cache.path:
        return None
    cache = open_cache(config.cache.path, config.llm, label_set)

    def is_known(keys: Sequence[str]) -> list[bool]:
        found = cache.find(keys)
        return [key in found for key in keys]

    return is_known


def _at_threshold(
    samples: Sequence[ShardSample],
    config: ExtractConfig,
    threshold: float,
    *,
    requests_per_s: float | None,
    is_known: IsKnown | None,
) -> ThresholdEstimate:
    """What would be asked at one threshold."""
    routing = config.routing.model_copy(update={"threshold": threshold, "budget": None})
    candidates = routed = audited = questions = known = tokens = 0.0
    for sample in samples:
        table = apply_stage(RouteSpans(routing), sample.table.drop_columns(["routes"]))
        routes = table["routes"].combine_chunks().flatten()
        answers = table["answers"].combine_chunks().flatten()
        asked = answers.filter(pc.is_in(routes, pa.array(ASKED_ROUTES)))
        tokens_of = dict(
            zip(
                asked.field("key").to_pylist(),
                asked.field("prompt_tokens").to_pylist(),
                strict=True,
            )
        )
        at_hand = np.zeros(len(tokens_of), dtype=bool)
        if is_known is not None and tokens_of:
            at_hand = np.asarray(is_known(list(tokens_of)), dtype=bool)
        candidates += sample.weight * len(routes)
        routed += sample.weight * pc.sum(pc.equal(routes, "llm")).as_py() if len(routes) else 0
        audited += sample.weight * pc.sum(pc.equal(routes, "audit")).as_py() if len(routes) else 0
        questions += sample.weight * len(tokens_of)
        known += sample.weight * int(at_hand.sum())
        tokens += sample.weight * float(np.array(list(tokens_of.values()))[~at_hand].sum())
    wanted = routed + audited
    within = min(_budget(config, candidates), wanted)
    part = within / wanted if wanted else 0.0
    to_ask = part * (questions - known)
    actors = config.resources.llm_actors
    return ThresholdEstimate(
        threshold=threshold,
        routed=round(routed),
        audited=round(audited),
        routed_share=routed / candidates if candidates else 0.0,
        asked=round(within),
        questions=round(part * questions),
        known=None if is_known is None else round(part * known),
        prompt_tokens=round(part * tokens),
        llm_hours=to_ask / requests_per_s / actors / 3600 if requests_per_s else None,
    )


def _budget(config: ExtractConfig, candidates: float) -> float:
    """Candidates that may be asked about."""
    if config.routing.max_share is not None:
        return float(config.routing.max_share) * candidates
    return math.inf if config.routing.max_calls is None else float(config.routing.max_calls)


def _measure(config: LlmConfig, label_set: LabelSet, requests: Sequence[Request]) -> float | None:
    """Requests that one engine answers in a second; None if there is nothing to ask."""
    if config.backend == "none" or not requests:
        return None
    backend = start_backend(config, label_set)
    try:
        chosen = requests[:MEASURED_REQUESTS]
        started = time.perf_counter()
        backend.ask(chosen)
        return len(chosen) / (time.perf_counter() - started)
    finally:
        backend.close()


def _total(samples: Sequence[ShardSample], count: Callable[[pa.Table], int]) -> int:
    """A count over the whole input."""
    return round(sum(sample.weight * count(sample.table) for sample in samples))


def _num_words(table: pa.Table) -> int:
    tokens = pc.struct_field(pc.list_flatten(table["sentences"]), "tokens")
    return pc.sum(pc.list_value_length(tokens)).as_py() or 0


def _num_chars(table: pa.Table) -> int:
    return pc.sum(pc.utf8_length(table["text"])).as_py() or 0


def _num_candidates(table: pa.Table) -> int:
    return pc.sum(pc.list_value_length(table["candidates"])).as_py() or 0
