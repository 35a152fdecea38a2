"""Does fusion by product gain from a weight that is fitted, and from trust that is?

    python -m benchmarks.product_weight --checkpoint models/conll03 --set conll03/spanner.test \
      --replay gpt35_conll03_test.jsonl --json numbers.json

A weight needs answers with gold, which only the scored set has: it is fitted on half of the
sentences and used on the other half, both ways. Beside it stand `override` and a product with the
weight of the config. `linkner evaluate` says what all else gains.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import torch

from benchmarks.measure import write_json
from benchmarks.recorded import with_replay
from linkner_ray.config import FusionConfig, RecognizeConfig
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.scores import score_entities
from linkner_ray.corpora.tables import corpus_documents
from linkner_ray.errors import ContractError
from linkner_ray.evaluation.curves import routed_from, thresholds_for, uncertainties
from linkner_ray.evaluation.fusion_weight import fit_product
from linkner_ray.evaluation.judge import Gold, entity_triples
from linkner_ray.reporting.tables import markdown_table
from linkner_ray.spanner.model import SpanNER
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.recognize_spans import RecognizeSpans

Numbers = dict[str, object]

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of the set's candidates that are asked about."""

OVERRIDE, PRODUCT, FITTED = "override", "product", "product, fitted on the other half"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One share asked.

    Attributes:
        share: Wanted share of the candidates.
        f1: Strict F1 by system.
        fitted: Weight and reliability that each half gave the other.
    """

    share: float
    f1: Mapping[str, float]
    fitted: Mapping[str, tuple[float, float]]


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="folder that training wrote")
    parser.add_argument("--set", required=True, help="labelled set that is scored")
    parser.add_argument("--replay", required=True, help="recorded answers")
    parser.add_argument("--reliability", type=float, default=FusionConfig().reliability)
    parser.add_argument("--weight", type=float, default=FusionConfig().weight)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = SpanNER.from_pretrained(options.checkpoint)
    recognize = RecognizeSpans(RecognizeConfig(device="cpu", dtype="float32"), model)
    sentences = read_corpus(options.set, label_set=model.label_set).sentences
    documents, entities = corpus_documents(sentences, ids_prefix="set")
    answered = with_replay(apply_stage(recognize, documents), options.replay, model.label_set)
    gold = [[(one.start, one.end, one.label) for one in row] for row in entities]
    product = FusionConfig(
        strategy="product", weight=options.weight, reliability=options.reliability
    )
    thresholds = thresholds_for(uncertainties(answered), SHARES)
    points = compare(answered, gold, thresholds, model.label_set.classes, product)
    print(_report(points))
    numbers: Numbers = {"points": [asdict(point) for point in points]}
    if options.json:
        write_json(options.json, numbers)
    return numbers


def compare(
    answered: pa.Table,
    gold: Gold,
    thresholds: Mapping[float, float],
    classes: Sequence[str],
    product: FusionConfig,
) -> list[Point]:
    """Score `override`, the given product and the fitted one at every threshold.

    Even sentences are fused with what odd ones give, and the reverse; both together are scored. No
    sentence has a say in its own weight, but the halves share their documents, so this is kinder
    than a set of another day would be.

    Args:
        answered: Every candidate with its answer.
        gold: Of the same documents.
        thresholds: By share asked.
        classes: `LabelSet.classes`.
        product: Compared, and used where a half has no answer to fit on.
    """
    halves = {"even": range(0, answered.num_rows, 2), "odd": range(1, answered.num_rows, 2)}
    gold_of = {name: [gold[row] for row in rows] for name, rows in halves.items()}
    points = []
    for share, threshold in thresholds.items():
        routed = routed_from(answered, threshold)
        if routed is None:
            raise ContractError("a candidate has no answer; put every one to the LLM first")
        tables = {name: routed.take(pa.array(rows)) for name, rows in halves.items()}
        configs = {
            name: _fitted(table, gold_of[name], classes, product) for name, table in tables.items()
        }
        linked = [
            apply_stage(FuseEntities(configs[other], classes), tables[name])
            for name, other in (("even", "odd"), ("odd", "even"))
        ]
        override = product.model_copy(update={"strategy": "override"})
        f1 = {
            name: _f1(apply_stage(FuseEntities(config, classes), routed), gold)
            for name, config in ((OVERRIDE, override), (PRODUCT, product))
        }
        f1[FITTED] = _f1(pa.concat_tables(linked), [*gold_of["even"], *gold_of["odd"]])
        fitted = {name: (one.weight, one.reliability) for name, one in configs.items()}
        points.append(Point(share=share, f1=f1, fitted=fitted))
    return points


def _f1(linked: pa.Table, gold: Gold) -> float:
    return score_entities(gold, entity_triples(linked)).micro.f1


def _fitted(
    table: pa.Table, gold: Gold, classes: Sequence[str], fusion: FusionConfig
) -> FusionConfig:
    """A product with the likeliest reliability, and then the likeliest weight."""
    fit = fit_product(table, gold, classes, reliability=fusion.reliability)
    if fit is None:
        return fusion
    # Never quite certain: a reliability of 1 would leave other classes no chance at all.
    reliability = min(max(fit.reliability, 0.01), 0.99)
    fit = fit_product(table, gold, classes, reliability=reliability)
    weight = fusion.weight if fit is None else fit.weight
    return FusionConfig(strategy="product", weight=weight, reliability=reliability)


def _report(points: Sequence[Point]) -> str:
    return markdown_table(
        [
            {"asked": f"{point.share:.0%}"}
            | {name: f"{f1:.4f}" for name, f1 in point.f1.items()}
            | {"weights": ", ".join(f"{weight:.2f}" for weight, _ in point.fitted.values())}
            for point in points
        ]
    )


if __name__ == "__main__":
    main()
