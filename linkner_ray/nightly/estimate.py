"""`linkner estimate`: what a run would find, ask and take, from a sample of its input.

The sample goes through the stages of a run, here and without Ray, up to the question that would be
asked. A shard's sample stands for the shard, the sampled shards by their bytes for all.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import ExtractConfig, LlmConfig, RoutingConfig
from linkner_ray.extract.limits import LanguageWatch, check_finite
from linkner_ray.extract.plan import Plan
from linkner_ray.labels import LabelSet
from linkner_ray.linking.link import Link
from linkner_ray.linking.summary import LinkSummary, summary_of
from linkner_ray.llm.backends import open_cache, start_backend
from linkner_ray.llm.backends.recorder import Recorder
from linkner_ray.llm.prompts import Request
from linkner_ray.logs import progress
from linkner_ray.nightly.asking_estimate import IsKnown, RoutingEstimate, estimate_row
from linkner_ray.readers.detect_language import count_languages
from linkner_ray.readers.sampling import ShardSample, draw_sample
from linkner_ray.runs.counters import add_counts
from linkner_ray.stages.chain import Chain
from linkner_ray.stages.unit import NOT_FINITE

THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)

MIN_GAINS = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
"""Least expected gains of a question, of a run with a link."""

AT_ONCE = 20
"""Documents that go through the stages together."""

MEASURED_REQUESTS = 256
"""Requests by which an LLM's speed is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """What to look at, and what to take as given."""

    documents: int = 200
    """Documents of the sample, or a few more, spread over the shards."""

    thresholds: tuple[float, ...] = THRESHOLDS
    """Thresholds to compare, besides the config's own."""

    min_gains: tuple[float, ...] = MIN_GAINS
    """What takes their place in a run with a link: values of `routing.min_gain`."""

    requests_per_s: float | None = None
    """What one engine answers in a second; None for `routing.requests_per_s`, if that is set."""

    measure_llm: bool = False
    """Whether to start the LLM and measure it instead."""


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

    link: LinkSummary | None
    """Of a run with a link. Where it does not ask, there is one row, and all of it is 0."""

    rows: tuple[RoutingEstimate, ...]


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
    recorder = Recorder(config.llm, plan.label_set)
    chain = Chain.of(config, plan.label_set)
    link = chain.link
    drawn = draw_sample(plan.sources, config.input, documents=settings.documents, seed=0)
    languages: dict[str, int] = {}
    for sample in drawn:
        add_counts(languages, count_languages(sample.table))
    read = sum(sample.table.num_rows for sample in drawn)
    samples, seconds = _run_sample(drawn, chain, recorder)
    lost = read - sum(sample.table.num_rows for sample in samples)
    counts = {"documents_read": read, f"quarantine_{NOT_FINITE}": lost}
    check_finite(counts, config.errors, has_ended=True)
    LanguageWatch(plan.languages).look(languages, has_ended=True)
    sampled_words = sum(_num_words(sample.table) for sample in samples)
    words_per_s = sampled_words / seconds if seconds else 0.0
    requests_per_s = settings.requests_per_s or config.routing.requests_per_s
    if settings.measure_llm:
        requests_per_s = _measure(config.llm, plan.label_set, recorder.requests)
    words = _total(samples, _num_words)
    actors = config.resources.encoder_actors
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
        link=None if link is None else summary_of(link),
        rows=tuple(
            estimate_row(
                samples,
                config.model_copy(update={"routing": routing}),
                link,
                requests_per_s=requests_per_s,
                is_known=is_known,
            )
            for routing in _routings(config.routing, settings, link)
        ),
    )


def _run_sample(
    drawn: Sequence[ShardSample], chain: Chain, recorder: Recorder
) -> tuple[list[ShardSample], float]:
    """The sample after the stages, and the seconds that Recognition took."""
    # Whatever may be asked about gets an answer, and so the key of its question.
    all_asked = {"threshold": 0.0, "per_name": None, "budget": None}
    anything = chain.routing.model_copy(update=all_asked)
    asks = chain.link is None or chain.link.asks
    chain = replace(chain, routing=anything, has_llm=asks, link=None)
    steps = (
        chain.split_step(),
        chain.recognize_step(chain.load_recognizer()),
        chain.classify_step(recorder),
    )
    samples, seconds, done = [], 0.0, 0
    with progress.step("documents", sum(sample.table.num_rows for sample in drawn)) as shown:
        for sample in drawn:
            units = chain.units_at_hand(list(_slices(sample.table)))
            for unit in units:
                shown.update(done)
                for step in steps:
                    step(unit)
                seconds += unit.seconds["RecognizeSpans"]
                done += unit.num_records
            table = pa.concat_tables(unit.documents for unit in units)
            samples.append(replace(sample, table=table))
    return samples, seconds


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


def _routings(
    own: RoutingConfig, settings: SampleSettings, link: Link | None
) -> list[RoutingConfig]:
    """What to compare: the config's own among others, from the most to the least asked."""
    if link is None:
        thresholds = sorted({*settings.thresholds, own.threshold})
        return [own.model_copy(update={"threshold": value}) for value in thresholds]
    if not link.asks:
        return [own]
    gains = sorted({*settings.min_gains, own.min_gain})
    return [own.model_copy(update={"min_gain": value}) for value in gains]


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


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    """The documents of a table, `AT_ONCE` of them at a time; an empty table once."""
    for first in range(0, max(1, table.num_rows), AT_ONCE):
        yield table.slice(first, AT_ONCE)


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
