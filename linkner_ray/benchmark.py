"""The offline benchmark: labelled sets through the production stages, then scored."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from linkner_ray.config import EvaluateConfig, EvaluateSet
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.labelled import unreachable_spans
from linkner_ray.corpora.tables import GoldEntity, corpus_documents
from linkner_ray.errors import ConfigError
from linkner_ray.evaluation.scores import Scores, score_entities, scores_table
from linkner_ray.labels import LabelSet
from linkner_ray.pipeline import Chain, run_documents, without_llm
from linkner_ray.runs.accounts import VERDICTS
from linkner_ray.runs.folder import parquet_bytes
from linkner_ray.spanner.checkpoint import local_checkpoint, read_parts
from linkner_ray.stages.write_entities import WriteEntities
from linkner_ray.storage import Folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """Scores of one labelled set."""

    name: str
    num_sentences: int
    num_gold: int
    num_unreachable: int
    """Gold entities longer than the model's maximum width; they count as missed."""

    num_candidates: int
    num_routed: int
    verdicts: Mapping[str, int]
    """Routed candidates by what came of asking."""

    local: Scores
    """The local model alone, on the same candidates."""

    linked: Scores
    """Local and LLM together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadedSet:
    name: str
    units: list[pa.Table]
    gold: list[list[GoldEntity]]
    num_unreachable: int


def evaluate(config: EvaluateConfig) -> list[SetResult]:
    """Score a checkpoint, with or without an LLM, on labelled sets.

    Gold stays here: the stages get documents with sentences and nothing else. Writes
    `metrics.json`, `report.md` and the predictions of each set to `output.path`.

    Raises:
        ConfigError: If there is no checkpoint.
        DataError: If a set is malformed, or has a label the checkpoint does not know.
    """
    if not config.recognize.checkpoint:
        raise ConfigError("recognize.checkpoint is not set; give a folder written by `train`")
    checkpoint = read_parts(local_checkpoint(config.recognize.checkpoint))
    label_set, max_width = checkpoint.label_set, checkpoint.model.max_width
    sets = [
        _load(entry, label_set, unit_sentences=config.unit_sentences, max_width=max_width)
        for entry in config.sets
    ]
    started = time.perf_counter()
    chain = Chain.of(config, label_set)
    tables = run_documents([unit for loaded in sets for unit in loaded.units], chain)
    seconds = time.perf_counter() - started
    output = Folder.at(config.output.path)
    results = []
    for loaded in sets:
        own, tables = tables[: len(loaded.units)], tables[len(loaded.units) :]
        table = pa.concat_tables(own)
        rows = WriteEntities(keep_text=True)(table)
        output.write_whole(f"predictions/{loaded.name}.parquet", parquet_bytes(rows))
        results.append(_score(loaded, table, chain))
    metrics = {
        "config": config.model_dump(mode="json"),
        "seconds": seconds,
        "sets": [asdict(result) for result in results],
    }
    output.write_whole("metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    output.write_whole("report.md", _report(results).encode())
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
    gold = [[(e.start, e.end, e.label) for e in entities] for entities in loaded.gold]
    return SetResult(
        name=loaded.name,
        num_sentences=table.num_rows,
        num_gold=sum(map(len, gold)),
        num_unreachable=loaded.num_unreachable,
        num_candidates=len(routes),
        num_routed=routes.count("llm"),
        verdicts=_count_verdicts(table),
        local=score_entities(gold, entity_triples(local)),
        linked=score_entities(gold, entity_triples(table)),
    )


def _count_verdicts(table: pa.Table) -> dict[str, int]:
    answers = [answer for row in table["answers"].to_pylist() for answer in row if answer]
    found = [answer["verdict"] for answer in answers]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def entity_triples(table: pa.Table) -> list[set[tuple[int, int, str]]]:
    """Entities of each document as (start, end, label)."""
    return [
        {(entity["start"], entity["end"], entity["label"]) for entity in entities}
        for entities in table["entities"].to_pylist()
    ]


def _report(results: Sequence[SetResult]) -> str:
    parts = ["# Evaluation", "", "Strict entity scores: boundaries and label must be right.", ""]
    parts += [summary_table(results), ""]
    for result in results:
        parts += [f"## {result.name}: local", "", scores_table(result.local), ""]
        parts += [f"## {result.name}: linked", "", scores_table(result.linked), ""]
        verdicts = ", ".join(f"{count} {name}" for name, count in result.verdicts.items())
        parts += [f"Verdicts on {result.num_routed} routed candidates: {verdicts}.", ""]
    return "\n".join(parts)


def summary_table(results: Sequence[SetResult]) -> str:
    """One Markdown row for each set."""
    rows: list[Mapping[str, str]] = [
        {
            "set": result.name,
            "sentences": f"{result.num_sentences:,}",
            "gold": f"{result.num_gold:,}",
            "too wide": str(result.num_unreachable),
            "local F1": f"{result.local.micro.f1:.4f}",
            "linked F1": f"{result.linked.micro.f1:.4f}",
            "routed share": f"{result.num_routed / max(1, result.num_candidates):.3f}",
        }
        for result in results
    ]
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    return "\n".join(lines)
