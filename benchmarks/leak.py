"""How much of a published gain comes from putting gold spans among the candidates?

    python -m benchmarks.leak --checkpoint models/conll03 --set conll03/spanner.test \
      --replay gpt35_conll03_test.jsonl --json numbers.json

LinkNER's reference code lists a span for the LLM if the model predicts it or gold has it, so what
the model missed is asked about only because it is gold, and no ordinary span ever is. Here the same
model and the same answers are scored under three rules: predicted spans alone, predicted and
near misses (what this project does, without gold), and predicted and gold ones (the leak). Answers
come from a recorded LLM and from an oracle that answers by gold.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from benchmarks.measure import write_json
from linkner_ray.config import LlmConfig, RecognizeConfig, RoutingConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.labelled import LabelledSentence
from linkner_ray.corpora.tables import GoldEntity, corpus_documents
from linkner_ray.evaluation.curves import answered_by_gold, curve, routed_from
from linkner_ray.evaluation.judge import Judge, entity_triples
from linkner_ray.labels import LabelSet
from linkner_ray.llm.backends import start_backend
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.spanner.model import SpanNER
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.route_spans import RouteSpans

Numbers = dict[str, object]

RULES = ("predicted", "predicted and near misses", "predicted and gold (leak)")

THRESHOLDS = {"0.4, the reference's": 0.4, "0.1": 0.1, "all asked": 0.0}


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="folder that training wrote")
    parser.add_argument("--set", required=True, help="labelled set")
    parser.add_argument("--replay", help="recorded answers; without, only the oracle answers")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = SpanNER.from_pretrained(options.checkpoint)
    sentences = read_corpus(options.set, label_set=model.label_set).sentences
    tables = candidates_by_rule(model, sentences)
    _, entities = corpus_documents(sentences, ids_prefix="set")
    gold = [[(one.start, one.end, one.label) for one in row] for row in entities]
    fuse = FuseEntities(model.label_set.classes)
    rows = []
    for rule, table in tables.items():
        answered = {"oracle": answered_by_gold(table, gold)}
        if options.replay:
            answered["recorded LLM"] = with_replay(table, options.replay, model.label_set)
        nobody_asked = routed_from(answered["oracle"], math.inf)
        local = apply_stage(fuse, nobody_asked)["entities"]
        judge = Judge(gold, entity_triples(local), samples=100)
        for who, answers in answered.items():
            for name, point in curve(
                answers, {"local": math.inf, **THRESHOLDS}, fuse, judge
            ).items():
                rows.append(
                    {"candidates": rule, "answers": who, "threshold": name, **asdict(point)}
                )
    print(_report(rows))
    numbers: Numbers = {"rows": rows}
    if options.json:
        write_json(options.json, numbers)
    return numbers


def candidates_by_rule(
    model: SpanNER, sentences: Sequence[LabelledSentence]
) -> dict[str, pa.Table]:
    """Documents with the candidates of each rule; the last looks at gold, as the reference does."""
    documents, gold = corpus_documents(sentences, ids_prefix="set")
    stage = RecognizeSpans(RecognizeConfig(device="cpu", dtype="float32"), model)
    table = apply_stage(stage, documents)
    found = table["candidates"].to_pylist()
    predicted = [[one for one in row if one["kind"] == "predicted"] for row in found]
    everything = stage.recognizer.spans([one.tokens for one in sentences], floor=0.0)
    places = zip(
        everything.sentence.tolist(),
        everything.start_token.tolist(),
        everything.end_token.tolist(),
        strict=True,
    )
    probs = dict(zip(places, everything.probs.tolist(), strict=True))
    leaked = []
    for index, (sentence, entities, ours) in enumerate(
        zip(sentences, gold, predicted, strict=True)
    ):
        known = {(one["start"], one["end"]) for one in ours}
        missed = [
            _candidate(entity, probs[index, span.start_token, span.end_token], model)
            for span, entity in zip(sentence.spans, entities, strict=True)
            if (entity.start, entity.end) not in known
            and (index, span.start_token, span.end_token) in probs  # else wider than it looks
        ]
        leaked.append(sorted([*ours, *missed], key=lambda one: (one["start"], one["end"])))
    return {
        rule: table.set_column(
            table.schema.get_field_index("candidates"),
            "candidates",
            pa.array(rows, STAGE_COLUMNS["candidates"]),
        )
        for rule, rows in zip(RULES, (predicted, found, leaked), strict=True)
    }


def with_replay(candidates: pa.Table, path: str, label_set: LabelSet) -> pa.Table:
    """Every candidate put to the recorded LLM."""
    config = LlmConfig(
        backend="replay", model="recorded", replay_path=path, max_context_chars=10_000
    )
    backend = start_backend(config, label_set)
    routed = apply_stage(RouteSpans(RoutingConfig(threshold=0.0)), candidates)
    return apply_stage(ClassifySpans(backend, label_set, config=config), routed)


def _candidate(entity: GoldEntity, probs: Sequence[float], model: SpanNER) -> dict[str, object]:
    """A gold span that the model does not predict, with what the model thinks of it."""
    classes = model.label_set.classes
    best = max(range(1, len(classes)), key=lambda index: probs[index])
    return {
        "sentence": 0,
        "start": entity.start,
        "end": entity.end,
        "label": classes[best],
        "label_probs": list(probs),
        "uncertainty": 1.0 - max(probs),
        "kind": "near_miss",
    }


def _report(rows: Sequence[dict[str, Any]]) -> str:
    return markdown_table(
        [
            {
                "candidates": str(row["candidates"]),
                "answers": str(row["answers"]),
                "threshold": str(row["threshold"]),
                "asked": f"{row['num_asked']:,}",
                "F1": f"{row['f1']:.4f}",
                "gain": f"{100 * row['gain']['difference']:+.2f}",
            }
            for row in rows
        ]
    )


if __name__ == "__main__":
    main()
