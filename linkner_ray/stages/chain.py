"""The stages put together: the way of a document from its shard to the rows that are written.

    units_of          ReadDocuments, ReuseDocuments in an incremental run, SplitSentences,
                      EncodeWords
    recognize_step    RecognizeSpans, RouteSpans
    classify_step     ClassifySpans
    fuse_step         FuseEntities
    write_unit        WriteEntities, in `write_entities`

Extraction runs each line in processes of its own; `LinkNER`, `linkner estimate` and an evaluation
take the same steps without the first or the last.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import pyarrow as pa

from linkner_ray.config import (
    CacheConfig,
    EvaluateConfig,
    ExtractConfig,
    LlmConfig,
    RecognizeConfig,
    RoutingConfig,
    SentencesConfig,
)
from linkner_ray.config.budget import Quota
from linkner_ray.labels import LabelSet
from linkner_ray.linking.link import Link
from linkner_ray.llm.backends import Backend, start_backend
from linkner_ray.readers import read_units
from linkner_ray.runs.counters import LlmCosts, count_costs
from linkner_ray.runs.units import Source, unit_name
from linkner_ray.spanner.checkpoint import local_checkpoint, read_parts
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.contract import Stage, apply_stage
from linkner_ray.stages.demonstration_source import load_demonstrations
from linkner_ray.stages.encode_words import EncodeWords
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.link_source import link_of
from linkner_ray.stages.normalise_sources import normalise_sources
from linkner_ray.stages.recognize_when_needed import RecognizeWhenNeeded
from linkner_ray.stages.reuse import ReuseDocuments
from linkner_ray.stages.route_spans import RouteSpans
from linkner_ray.stages.split_sentences import SplitSentences
from linkner_ray.stages.unit import Unit

Step = Callable[[Unit], None]
"""Stages that follow each other in one process; a step changes the unit it is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The stages of a config, from splitting to fusion."""

    label_set: LabelSet
    """Of the checkpoint."""

    recognize: RecognizeConfig
    llm: LlmConfig
    has_llm: bool
    """Whether there is an LLM to ask."""

    routing: RoutingConfig
    sentences: SentencesConfig
    link: Link | None = None
    """What dev showed of the checkpoint and the LLM together, if it was measured."""

    cache: CacheConfig = field(default_factory=CacheConfig)

    @classmethod
    def of(cls, config: ExtractConfig | EvaluateConfig, label_set: LabelSet) -> "Chain":
        """The chain of a job; an evaluation's documents come with their sentences.

        An LLM that gains nothing by its link is left out.
        """
        link = link_of(config.routing, config.recognize, config.llm, label_set)
        return cls(
            label_set=label_set,
            recognize=config.recognize,
            llm=config.llm,
            has_llm=config.llm.backend != "none" and (link is None or link.asks),
            routing=config.routing,
            cache=config.cache,
            link=link,
            sentences=config.sentences if isinstance(config, ExtractConfig) else SentencesConfig(),
        )

    def quotas(self, sizes: Sequence[int]) -> list[Quota | None]:
        """Part of each shard in a budget of calls, by its size; None under another budget."""
        calls = self.routing.max_calls
        if calls is None:
            return [None] * len(sizes)
        before = accumulate(sizes, initial=0)
        total = sum(sizes)
        return [
            Quota(calls=calls, total_bytes=total, bytes_before=position)
            for position, _ in zip(before, sizes, strict=False)
        ]

    def units_at_hand(self, tables: Sequence[pa.Table]) -> list[Unit]:
        """A unit for each table of documents that comes from no shard, numbered in order."""
        # A table has no size in bytes: a document counts as one.
        quotas = self.quotas([table.num_rows for table in tables])
        return [
            Unit(
                documents=table,
                first_record=index,
                num_records=table.num_rows,
                max_asked=None if quota is None else quota.between(0, table.num_rows),
            )
            for index, (table, quota) in enumerate(zip(tables, quotas, strict=True))
        ]

    def split_step(self) -> Step:
        """The stage before Recognition."""
        split = SplitSentences(self.sentences)
        return lambda unit: unit.apply(split)

    def load_encode_words(self) -> EncodeWords:
        """The stage that encodes words; it holds the tokenizer of the checkpoint, no weights."""
        parts = read_parts(local_checkpoint(self.recognize.checkpoint))
        return EncodeWords(parts.subword_encoder())

    def load_recognizer(self, *, when_needed: bool = False) -> Stage:
        """Recognition, with its model.

        Args:
            when_needed: Whether to load the model only when a document needs it.
        """
        # Not at the top: workers that read and write would load torch with this module.
        from linkner_ray.stages.recognize_spans import RecognizeSpans

        def load() -> Stage:
            return RecognizeSpans(self.recognize)

        return RecognizeWhenNeeded(load) if when_needed else load()

    def route(self, max_asked: int | None = None) -> RouteSpans:
        """Detection, for a unit with this part of a budget in calls."""
        return RouteSpans(self.routing, has_llm=self.has_llm, max_asked=max_asked, link=self.link)

    def start_llm(self, on_rebuild: Callable[[], None] = lambda: None) -> Backend | None:
        """The LLM, started as `backends.start_backend` does it; None for a chain without one."""
        if not self.has_llm:
            return None
        return start_backend(self.llm, self.label_set, self.cache, on_rebuild=on_rebuild)

    def classify(self, backend: Backend | None) -> ClassifySpans:
        """Classification by a backend, with the demonstrations that it is shown."""
        demonstrations = None if backend is None else load_demonstrations(self.llm, self.label_set)
        return ClassifySpans(
            backend, self.label_set, config=self.llm, demonstrations=demonstrations
        )

    def fuse(self) -> FuseEntities:
        """Local and LLM answers become entities."""
        return FuseEntities(self.label_set.classes, self.link)

    def recognize_step(self, recognize: Stage) -> Step:
        """Recognition and Detection; documents without finite numbers go into quarantine."""

        def step(unit: Unit) -> None:
            unit.apply(recognize)
            read = [name for name in EncodeWords.adds if name in unit.documents.column_names]
            unit.documents = unit.documents.drop_columns(read)
            unit.reject_not_finite()
            unit.apply(self.route(unit.max_asked))

        return step

    def classify_step(self, backend: Backend | None) -> Step:
        """Classification; notes what the LLM says of itself."""
        classify = self.classify(backend)
        costs = None if backend is None else LlmCosts(backend.describe)

        def step(unit: Unit) -> None:
            unit.apply(classify)
            if costs is not None:
                unit.costs |= costs.of_unit()

        return step

    def fuse_step(self) -> Step:
        """Fusion; the costs of the unit are counted first, then sources are normalised."""
        fuse = self.fuse()

        def step(unit: Unit) -> None:
            unit.costs |= count_costs(unit.documents)
            unit.documents = normalise_sources(unit.documents)
            unit.apply(fuse)

        return step

    def decide_locally(self, table: pa.Table) -> pa.Table:
        """Documents with candidates as a run without an LLM routes, answers and fuses them."""
        later = ("routes", "answers", "entities")
        table = table.drop_columns([name for name in later if name in table.column_names])
        alone = replace(self, has_llm=False, link=None)
        for stage in (alone.route(), alone.classify(None), alone.fuse()):
            table = apply_stage(stage, table)
        return table


def units_of(  # noqa: PLR0913 - what a run says to its readers
    source: Source,
    config: ExtractConfig,
    *,
    plan_digest: str,
    done: Mapping[int, int],
    quota: Quota | None,
    reuse: ReuseDocuments | None = None,
    encode: EncodeWords | None = None,
) -> Iterator[Unit]:
    """Units of a shard, with their text split into sentences.

    Args:
        source: The shard.
        config: Of the run.
        plan_digest: Digest of what decides the output.
        done: Finished units, which are left out: their records by their first one.
        quota: The shard's part of a budget in calls; None if the run has no such budget.
        reuse: Takes what an earlier run knows of a text.
        encode: Encodes words here rather than in `RecognizeSpans`.
    """
    split = SplitSentences(config.sentences)
    digest = source.digest(plan_digest)
    began, started = time.time(), time.perf_counter()
    for read in read_units(
        source,
        config=config.input,
        errors_raw_chars=config.errors.raw_chars,
        done=done,
    ):
        unit = Unit(
            name=unit_name(digest, read.first_record),
            source=source.shown,
            first_record=read.first_record,
            num_records=read.num_records,
            is_last=read.is_last,
            skipped=dict(read.skipped),
            documents=read.documents,
            quarantine=read.quarantine,
        )
        if quota is not None:
            first, end = (int(share * source.size) for share in (read.begins, read.ends))
            unit.max_asked = quota.between(first, end)
        unit.note("ReadDocuments", began=began, seconds=time.perf_counter() - started)
        if reuse is not None:
            unit.apply(reuse)
            unit.costs |= reuse.counters(unit.documents)
        unit.apply(split)
        if encode is not None:
            unit.apply(encode)
        yield unit
        began, started = time.time(), time.perf_counter()
