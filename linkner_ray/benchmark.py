"""The offline benchmark: labelled sets through the production stages, then scored."""

import json
import logging
import time
from dataclasses import asdict, dataclass

import pyarrow as pa

from linkner_ray.config import EvaluateConfig, EvaluateSet
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.labelled import unreachable_spans
from linkner_ray.corpora.tables import GoldEntity, corpus_documents
from linkner_ray.errors import ConfigError
from linkner_ray.evaluation.benchmark_report import SetResult, describe_benchmark
from linkner_ray.evaluation.bootstrap import paired_bootstrap
from linkner_ray.evaluation.candidates import (
    judge_candidates,
    predicted_uncertainty,
)
from linkner_ray.evaluation.detection import detect_ood
from linkner_ray.evaluation.flips import (
    as_if_routed,
    count_flips,
    fit_product,
)
from linkner_ray.evaluation.plots import plot_reliability
from linkner_ray.evaluation.scores import document_counts, score_entities
from linkner_ray.labels import LabelSet
from linkner_ray.pipeline import Chain, run_documents, without_llm
from linkner_ray.runs.accounts import VERDICTS
from linkner_ray.runs.folder import parquet_bytes
from linkner_ray.spanner.checkpoint import local_checkpoint, read_parts
from linkner_ray.stages.write_entities import WriteEntities
from linkner_ray.storage import Folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadedSet:
    name: str
    units: list[pa.Table]
    gold: list[list[GoldEntity]]
    num_unreachable: int


def evaluate(config: EvaluateConfig) -> list[SetResult]:
    """Score a checkpoint, with or without an LLM, on labelled sets.

    Gold stays here: the stages get documents with sentences and nothing else. Writes
    `metrics.json`, `report.md`, and the predictions and reliability diagram of each set to
    `output.path`. The first set counts as like training; each other one is held against it.

    Raises:
        ConfigError: If there is no checkpoint.
        DataError: If a set is malformed, or has a label the checkpoint does not know.
    """
    if not config.recognize.checkpoint:
        raise ConfigError("recognize.checkpoint is not set; give a folder written by `train`")
    checkpoint = read_parts(local_checkpoint(config.recognize.checkpoint))
    label_set, max_width = checkpoint.label_set, checkpoint.model.max_width
    config.routing.check_labels(label_set.ids)
    sets = [
        _load(entry, label_set, unit_sentences=config.unit_sentences, max_width=max_width)
        for entry in config.sets
    ]
    started = time.perf_counter()
    chain = Chain.of(config, label_set)
    tables = run_documents([unit for loaded in sets for unit in loaded.units], chain)
    seconds = time.perf_counter() - started
    output = Folder.at(config.output.path)
    results: list[SetResult] = []
    uncertainties = {}
    for loaded in sets:
        own, tables = tables[: len(loaded.units)], tables[len(loaded.units) :]
        table = pa.concat_tables(own)
        rows = WriteEntities(keep_text=True)(table)
        output.write_whole(f"predictions/{loaded.name}.parquet", parquet_bytes(rows))
        results.append(_score(loaded, table, chain))
        uncertainties[loaded.name] = predicted_uncertainty(table["candidates"])
        figures = results[-1].candidates
        output.write_whole(
            f"reliability-{loaded.name}.png",
            plot_reliability(figures.bins, name=loaded.name, ece=figures.ece),
        )
    first, *others = uncertainties
    ood = {name: detect_ood(uncertainties[first], uncertainties[name]) for name in others}
    metrics = {
        "config": config.model_dump(mode="json"),
        "seconds": seconds,
        "sets": [result.facts() for result in results],
        "ood": {name: asdict(found) for name, found in ood.items()},
    }
    output.write_whole("metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    output.write_whole("report.md", describe_benchmark(results, ood).encode())
    return results


def _load(
    entry: EvaluateSet, label_set: LabelSet, *, unit_sentences: int, max_width: int
) -> _LoadedSet:
    corpus = read_corpus(entry.path, format=entry.format, label_set=label_set)
    documents, gold = corpus_documents(corpus.sentences, ids_prefix=entry.name)
    units = [
        documents.slice(first, unit_sentences)
        for first in range(0, documents.num_rows, unit_sentences)
    ]
    return _LoadedSet(
        name=entry.name,
        units=units,
        gold=gold,
        num_unreachable=unreachable_spans(corpus.sentences, max_width),
    )


def _score(loaded: _LoadedSet, table: pa.Table, chain: Chain) -> SetResult:
    local = without_llm(table, chain)
    routes = [route for row in table["routes"].to_pylist() for route in row]
    classes = chain.label_set.classes
    gold = [[(e.start, e.end, e.label) for e in entities] for entities in loaded.gold]
    found = {"local": entity_triples(local), "linked": entity_triples(table)}
    before, after = (document_counts(gold, entities) for entities in found.values())
    return SetResult(
        name=loaded.name,
        num_sentences=table.num_rows,
        num_gold=sum(map(len, gold)),
        num_unreachable=loaded.num_unreachable,
        num_candidates=len(routes),
        num_routed=routes.count("llm"),
        candidates=judge_candidates(table["candidates"], gold),
        verdicts=_count_verdicts(table),
        local=score_entities(gold, found["local"]),
        linked=score_entities(gold, found["linked"]),
        gain=paired_bootstrap(before, after),
        routed=count_flips(table, gold),
        audited=count_flips(as_if_routed(table, chain.fusion, classes), gold, route="audit"),
        product=fit_product(table, gold, classes, reliability=chain.fusion.reliability),
    )


def _count_verdicts(table: pa.Table) -> dict[str, int]:
    rows = zip(table["routes"].to_pylist(), table["answers"].to_pylist(), strict=True)
    found = [
        answer["verdict"]
        for routes, answers in rows
        for route, answer in zip(routes, answers, strict=True)
        if route == "llm"
    ]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def entity_triples(table: pa.Table) -> list[set[tuple[int, int, str]]]:
    """Entities of each document as (start, end, label)."""
    return [
        {(entity["start"], entity["end"], entity["label"]) for entity in entities}
        for entities in table["entities"].to_pylist()
    ]
