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
from linkner_ray.evaluation.candidates import CandidateFigures, judge_candidates
from linkner_ray.evaluation.flips import (
    Flips,
    ProductFit,
    as_if_routed,
    asking_advice,
    count_flips,
    fit_product,
    flip_facts,
    flips_table,
)
from linkner_ray.evaluation.plots import plot_reliability
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
    candidates: CandidateFigures
    """Reach, calibration and error detection of the local model's candidates."""
    verdicts: Mapping[str, int]
    """Routed candidates by what came of asking."""

    local: Scores
    """The local model alone, on the same candidates."""

    linked: Scores
    """Local and LLM together."""

    routed: Mapping[str, Flips]
    """What asking did to the routed candidates, by local label."""

    audited: Mapping[str, Flips]
    """What it would have done to the audited ones."""

    product: ProductFit | None
    """Fusion by product, fitted on this set; None where no answer could be read."""

    def facts(self) -> dict[str, object]:
        """As JSON values."""
        flips = {"routed": flip_facts(self.routed), "audited": flip_facts(self.audited)}
        return {**asdict(self), **flips}


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
    `output.path`.

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
    results = []
    for loaded in sets:
        own, tables = tables[: len(loaded.units)], tables[len(loaded.units) :]
        table = pa.concat_tables(own)
        rows = WriteEntities(keep_text=True)(table)
        output.write_whole(f"predictions/{loaded.name}.parquet", parquet_bytes(rows))
        results.append(_score(loaded, table, chain))
        figures = results[-1].candidates
        output.write_whole(
            f"reliability-{loaded.name}.png",
            plot_reliability(figures.bins, name=loaded.name, ece=figures.ece),
        )
    metrics = {
        "config": config.model_dump(mode="json"),
        "seconds": seconds,
        "sets": [result.facts() for result in results],
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
    classes = chain.label_set.classes
    gold = [[(e.start, e.end, e.label) for e in entities] for entities in loaded.gold]
    return SetResult(
        name=loaded.name,
        num_sentences=table.num_rows,
        num_gold=sum(map(len, gold)),
        num_unreachable=loaded.num_unreachable,
        num_candidates=len(routes),
        num_routed=routes.count("llm"),
        candidates=judge_candidates(table["candidates"], gold),
        verdicts=_count_verdicts(table),
        local=score_entities(gold, entity_triples(local)),
        linked=score_entities(gold, entity_triples(table)),
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


def _report(results: Sequence[SetResult]) -> str:
    parts = ["# Evaluation", "", "Strict entity scores: boundaries and label must be right.", ""]
    parts += [summary_table(results), "", "## Candidates of the local model", ""]
    parts += [_CANDIDATES_LEGEND, "", candidates_table(results), ""]
    parts += [f"![{r.name}](reliability-{r.name}.png)\n" for r in results]
    for result in results:
        parts += [f"## {result.name}: local", "", scores_table(result.local), ""]
        parts += [f"## {result.name}: linked", "", scores_table(result.linked), ""]
        verdicts = ", ".join(f"{count:,} {name}" for name, count in result.verdicts.items())
        parts += [f"Verdicts on {result.num_routed:,} routed candidates: {verdicts}.", ""]
        parts += _asking(result)
    return "\n".join(parts)


def _asking(result: SetResult) -> list[str]:
    """What asking did, as lines of the report; nothing for a run without an LLM."""
    lines = []
    for title, flips in (("asked", result.routed), ("audited", result.audited)):
        if flips:
            lines += [f"## {result.name}: {title}", "", flips_table(flips)]
    if lines:
        lines += [
            "Candidates by local label, before and after; the audited ones as if their answers had "
            "counted. A span is right if gold has it with these boundaries and this label, or has "
            "nothing there and neither have we.",
            "",
        ]
    for paragraph in asking_advice(result.routed, result.audited):
        lines += [paragraph, ""]
    if result.product:
        fit = result.product
        lines += [
            f"Fitted on these {fit.num_spans:,} answers: `fusion.weight={fit.weight:.3f}`; the LLM "
            f"named gold's class in {fit.reliability:.1%} of them (`fusion.reliability`). "
            "Both come from this set's gold and are for other sets: scored here, they flatter.",
            "",
        ]
    return lines


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
    return _markdown(rows)


_CANDIDATES_LEGEND = """\
Reach is the share of gold entities whose boundaries a candidate has, and so what an LLM could still
put right; extra are doubted candidates for each predicted one. Calibration error (bins of equal
mass) and Brier score are of predicted candidates; AUROC is the chance that a wrong one is more
uncertain than a right one."""


def candidates_table(results: Sequence[SetResult]) -> str:
    """One Markdown row for each set: what its candidates are worth."""
    return _markdown(
        [
            {
                "set": result.name,
                "predicted": f"{figures.num_predicted:,}",
                "extra": f"{figures.extra_share:.3f}",
                "reach": f"{figures.reach:.4f}",
                "of predicted": f"{figures.reach_predicted:.4f}",
                "calibration error": f"{figures.ece:.4f}",
                "Brier": f"{figures.brier:.4f}",
                "AUROC": "-" if figures.auroc is None else f"{figures.auroc:.4f}",
            }
            for result in results
            for figures in [result.candidates]
        ]
    )


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of the same keys as a table."""
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    return "\n".join(lines)
