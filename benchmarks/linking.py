"""What does asking an LLM gain, at each share of the spans asked and for each way of fusion?

    python -m benchmarks.linking --checkpoint models/conll03 --dev conll03/spanner.dev \
      --set conll03/spanner.test --replay gpt35_conll03_test.jsonl --json numbers.json

Every candidate is put to a recorded LLM once; then thresholds, strategies and weights are tried on
the answers. Gold is looked at for scores alone. What a run would use is settled on dev, where there
are no answers: the threshold that asks a wanted share of dev's candidates. Beside the recorded LLM
stand an oracle that answers by gold, and a router that asks as many spans, but any. A weight for
the product needs answers with gold, which only this set has: it is fitted on half of the sentences
and used on the other half, both ways.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks.linking_curve import (
    OTHER_HALF,
    SHARES,
    Point,
    curve,
    fitted_on_the_other_half,
)
from benchmarks.measure import markdown_table, write_json
from linkner_ray.config import (
    FusionConfig,
    LlmConfig,
    RecognizeConfig,
    RoutingConfig,
)
from linkner_ray.corpora.corpus import read_corpus
from linkner_ray.corpora.tables import GoldEntity, corpus_documents
from linkner_ray.evaluation.benchmark_plots import plot_gains
from linkner_ray.evaluation.linking import answered_by_gold, shuffled
from linkner_ray.evaluation.recorded import extraction_f1
from linkner_ray.labels import NON_ENTITY
from linkner_ray.llm.backends import start_backend
from linkner_ray.spanner.model import SpanNER
from linkner_ray.stages.classify_spans import ClassifySpans
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.recognize_spans import RecognizeSpans
from linkner_ray.stages.route_spans import RouteSpans

Numbers = dict[str, object]

STRATEGIES = {
    "override": FusionConfig(strategy="override"),
    "product": FusionConfig(strategy="product"),
    "veto": FusionConfig(strategy="veto"),
}


def main(arguments: Sequence[str] | None = None) -> Numbers:
    """Run the benchmark, print its table, and write its numbers where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="folder that training wrote")
    parser.add_argument("--dev", required=True, help="labelled set that settles thresholds")
    parser.add_argument("--set", required=True, help="labelled set that is scored")
    parser.add_argument("--replay", help="recorded answers; without, only the oracle answers")
    parser.add_argument("--reliability", type=float, default=FusionConfig().reliability)
    parser.add_argument("--weight", type=float, default=FusionConfig().weight)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--plot", type=Path, help="write the curve here, as PNG")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = SpanNER.from_pretrained(options.checkpoint)
    recognize = RecognizeSpans(RecognizeConfig(device="cpu", dtype=options.dtype), model)
    dev, _ = corpus_documents(
        read_corpus(options.dev, label_set=model.label_set).sentences, ids_prefix="dev"
    )
    thresholds = dev_thresholds(apply_stage(recognize, dev))
    sentences = read_corpus(options.set, label_set=model.label_set).sentences
    documents, gold = corpus_documents(sentences, ids_prefix="set")
    candidates = apply_stage(recognize, documents)
    fusion = {
        name: one.model_copy(update={"weight": options.weight, "reliability": options.reliability})
        for name, one in STRATEGIES.items()
    }
    classes = model.label_set.classes
    fuse = {name: FuseEntities(one, classes) for name, one in fusion.items()}
    triples = [[(one.start, one.end, one.label) for one in row] for row in gold]
    oracle = answered_by_gold(candidates, triples)
    points = curve("oracle", oracle, gold, thresholds, fuse["override"])
    numbers: Numbers = {"candidates": sum(map(len, candidates["candidates"].to_pylist()))}
    if options.replay:
        answered = with_replay(candidates, options.replay, model)
        numbers |= _alone(answered, gold)
        numbers["llm_alone_f1"] = extraction_f1(options.replay, sentences)
        for name, one in fuse.items():
            points += curve(name, answered, gold, thresholds, one)
        dealt = shuffled(answered, seed=0)
        points += curve("product, any spans", dealt, gold, thresholds, fuse["product"])
        found, fitted = fitted_on_the_other_half(
            answered, gold, thresholds, classes, fusion["product"]
        )
        points += found
        numbers |= fitted
    numbers["points"] = [asdict(point) for point in points]
    print(_report(numbers, points))
    if options.plot:
        options.plot.write_bytes(
            plot_gains(
                {
                    name: [(p.asked_share, p.f1) for p in points if p.system == name]
                    for name in dict.fromkeys(p.system for p in points)
                }
            )
        )
    if options.json:
        write_json(options.json, numbers)
    return numbers


def dev_thresholds(dev: pa.Table) -> dict[float, float]:
    """For each of SHARES the uncertainty that as many of dev's candidates reach; no gold used."""
    uncertainty = np.sort(
        [one["uncertainty"] for row in dev["candidates"].to_pylist() for one in row]
    )
    found = {}
    for share in SHARES:
        count = round(share * len(uncertainty))
        found[share] = 1.0 if count == 0 else float(uncertainty[len(uncertainty) - count])
    found[1.0] = 0.0
    return found


def with_replay(candidates: pa.Table, path: str, model: SpanNER) -> pa.Table:
    """Every candidate put to the recorded LLM."""
    config = LlmConfig(
        backend="replay", model="recorded", replay_path=path, max_context_chars=10_000
    )
    backend = start_backend(config, model.label_set)
    routed = apply_stage(RouteSpans(RoutingConfig(threshold=0.0)), candidates)
    return apply_stage(ClassifySpans(backend, model.label_set, config=config), routed)


def _alone(answered: pa.Table, gold: Sequence[Sequence[GoldEntity]]) -> Numbers:
    """Verdicts, and how often they name gold's class."""
    verdicts: dict[str, int] = {}
    right = readable = 0
    for answers, found, golden in zip(
        answered["answers"].to_pylist(), answered["candidates"].to_pylist(), gold, strict=True
    ):
        label_of = {(one.start, one.end): one.label for one in golden}
        for answer, one in zip(answers, found, strict=True):
            verdicts[answer["verdict"]] = verdicts.get(answer["verdict"], 0) + 1
            if answer["verdict"] in ("label", "non_entity"):
                readable += 1
                truth = label_of.get((one["start"], one["end"]), NON_ENTITY)
                right += (answer["label"] or NON_ENTITY) == truth
    return {
        **{f"verdict_{name}": count for name, count in sorted(verdicts.items())},
        "llm_right_share_on_candidates": right / max(1, readable),
    }


def _report(numbers: Numbers, points: Sequence[Point]) -> str:
    rows = [
        {
            "system": point.system,
            "dev share": f"{point.dev_share:.2f}",
            "threshold": f"{point.threshold:.4f}",
            "asked": f"{point.asked_share:.4f}",
            "asked / predicted": f"{point.asked_for_each_predicted:.4f}",
            "F1": f"{point.f1:.4f}",
            "P": f"{point.precision:.4f}",
            "R": f"{point.recall:.4f}",
            "wrong->right": str(point.wrong_to_right),
            "right->wrong": str(point.right_to_wrong),
        }
        for point in points
    ]
    facts = [f"{key:<32} {value}" for key, value in numbers.items() if key != "points"]
    return "\n".join([*facts, "", markdown_table(rows), "", _strategies_table(points)])


def _strategies_table(points: Sequence[Point]) -> str:
    """F1 of the strategies side by side, a row a threshold."""
    f1 = {(point.system, point.dev_share): point.f1 for point in points}
    systems = [name for name in (*STRATEGIES, OTHER_HALF) if (name, SHARES[0]) in f1]
    asked = {point.dev_share: point.asked_share for point in points}
    return markdown_table(
        [
            {"asked of dev": f"{share:.1%}", "asked": f"{asked[share]:.1%}"}
            | {name: f"{f1[name, share]:.4f}" for name in systems}
            for share in SHARES
        ]
    )


if __name__ == "__main__":
    main()
