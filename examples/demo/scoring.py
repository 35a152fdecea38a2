"""Scores of the demo's labelled pages, from what the run wrote."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from linkner_ray.corpora.scores import score_entities
from linkner_ray.errors import ContractError
from linkner_ray.evaluation.judge import entity_triples
from linkner_ray.extract.plan import Plan
from linkner_ray.reporting.run_report import ReportScores
from linkner_ray.stages.chain import Chain


def score_pages(plan: Plan, gold_file: Path) -> ReportScores:
    """Score the local model alone and linked, on the pages that have gold.

    The local model's own entities are worked out from the candidates that the run kept, by the
    stages that follow recognition.

    Raises:
        ContractError: If a labelled page is not in the output.
    """
    gold = [json.loads(line) for line in gold_file.read_bytes().splitlines()]
    doc_ids = [page["doc_id"] for page in gold]
    output = Path(plan.config.output.path)
    linked = read_pages(output, doc_ids)
    local = Chain.of(plan.config, plan.label_set).decide_locally(
        linked.select(["doc_id", "sentences", "candidates", "text"])
    )
    expected = [{(start, end, label) for start, end, label in page["entities"]} for page in gold]
    return ReportScores(
        name=f"{len(gold)} labelled pages neither model was trained on",
        local=score_entities(expected, entity_triples(local["entities"])),
        linked=score_entities(expected, entity_triples(linked["entities"])),
    )


def read_pages(output: Path, doc_ids: Sequence[str]) -> pa.Table:
    """Rows of `entities/` and `candidates/` for some documents, in the order asked for.

    Raises:
        ContractError: If one of them is not there.
    """
    pages = _in_order(ds.dataset(output / "entities").to_table(), doc_ids)
    candidates = _in_order(ds.dataset(output / "candidates").to_table(), doc_ids)
    for name in candidates.column_names[1:]:  # the first is the id again
        pages = pages.append_column(name, candidates[name])
    return pages


def _in_order(table: pa.Table, doc_ids: Sequence[str]) -> pa.Table:
    place = {doc_id: row for row, doc_id in enumerate(table["doc_id"].to_pylist())}
    missing = [doc_id for doc_id in doc_ids if doc_id not in place]
    if missing:
        raise ContractError(f"labelled pages are missing in the output: {', '.join(missing[:5])}")
    return table.take([place[doc_id] for doc_id in doc_ids]).combine_chunks()
