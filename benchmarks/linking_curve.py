"""Scores of `benchmarks.linking` at every threshold, and with a weight of the other half."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from linkner_ray.config import FusionConfig
from linkner_ray.corpora.tables import GoldEntity
from linkner_ray.errors import ContractError
from linkner_ray.evaluation.flips import count_flips, fit_product
from linkner_ray.evaluation.linking import entity_triples, routed_from
from linkner_ray.evaluation.scores import score_entities
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities

Gold = Sequence[Sequence[GoldEntity]]

SHARES = (0.0, 0.01, 0.02, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
"""Shares of dev's candidates whose thresholds are tried."""

OTHER_HALF = "product, weight fitted on the other half"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One system at one threshold.

    Attributes:
        system: Strategy, or bound.
        dev_share: Share of dev's candidates that the threshold would ask.
        threshold: Uncertainty from which a candidate is asked about.
        asked_share: Share of this set's candidates that were asked about.
        asked_for_each_predicted: Asked candidates for each entity the local model predicts.
        f1: Strict F1; `precision` and `recall` likewise.
        wrong_to_right: Candidates that asking put right; `right_to_wrong` the reverse.
    """

    system: str
    dev_share: float
    threshold: float
    asked_share: float
    asked_for_each_predicted: float
    f1: float
    precision: float
    recall: float
    wrong_to_right: int
    right_to_wrong: int


def curve(
    system: str,
    answered: pa.Table,
    gold: Gold,
    thresholds: Mapping[float, float],
    fuse: FuseEntities,
) -> list[Point]:
    """Scores of one system at every threshold.

    Args:
        system: Its name.
        answered: Every candidate with its answer.
        gold: Of the same documents.
        thresholds: By the share of dev's candidates that they ask.
        fuse: The system's fusion.
    """
    points = []
    for share, threshold in thresholds.items():
        linked = apply_stage(fuse, _routed(answered, threshold))
        points.append(score_point(system, linked, gold, share=share, threshold=threshold))
    return points


def score_point(
    system: str, linked: pa.Table, gold: Gold, *, share: float, threshold: float
) -> Point:
    """Scores of documents after fusion."""
    triples = [[(one.start, one.end, one.label) for one in row] for row in gold]
    routes = [route for row in linked["routes"].to_pylist() for route in row]
    kinds = [one["kind"] for row in linked["candidates"].to_pylist() for one in row]
    scores = score_entities(triples, entity_triples(linked)).micro
    flips = count_flips(linked, triples).values()
    return Point(
        system=system,
        dev_share=share,
        threshold=threshold,
        asked_share=routes.count("llm") / max(1, len(routes)),
        asked_for_each_predicted=routes.count("llm") / max(1, kinds.count("predicted")),
        f1=scores.f1,
        precision=scores.precision,
        recall=scores.recall,
        wrong_to_right=sum(one.wrong_to_right for one in flips),
        right_to_wrong=sum(one.right_to_wrong for one in flips),
    )


def _routed(answered: pa.Table, threshold: float) -> pa.Table:
    routed = routed_from(answered, threshold)
    if routed is None:
        raise ContractError("a candidate has no answer; put every one to the LLM first")
    return routed


def fitted_on_the_other_half(
    answered: pa.Table,
    gold: Gold,
    thresholds: Mapping[float, float],
    classes: Sequence[str],
    fusion: FusionConfig,
) -> tuple[list[Point], dict[str, float]]:
    """A product whose weight and reliability come from gold of the other half of the sentences.

    Even sentences are fused with what odd ones give, and the reverse; both together are scored. No
    sentence has a say in its own weight, but the halves share their documents, so this is kinder
    than a set of another day would be.

    Args:
        answered: Every candidate with its answer.
        gold: Of the same documents.
        thresholds: By the share of dev's candidates that they ask.
        classes: `LabelSet.classes`.
        fusion: Used where a half has no answer to fit on.

    Returns:
        Scores at every threshold, and the fitted values of each half.
    """
    halves = {"even": range(0, answered.num_rows, 2), "odd": range(1, answered.num_rows, 2)}
    gold_of = {name: [gold[row] for row in rows] for name, rows in halves.items()}
    points, fitted = [], {}
    for share, threshold in thresholds.items():
        routed = _routed(answered, threshold)
        tables = {name: routed.take(pa.array(rows)) for name, rows in halves.items()}
        linked = []
        for name, other in (("even", "odd"), ("odd", "even")):
            config = _fitted(tables[other], gold_of[other], classes, fusion)
            fitted[f"weight_fitted_on_{other}_at_{share:g}"] = config.weight
            fitted[f"reliability_fitted_on_{other}_at_{share:g}"] = config.reliability
            linked.append(apply_stage(FuseEntities(config, classes), tables[name]))
        points.append(
            score_point(
                OTHER_HALF,
                pa.concat_tables(linked),
                [*gold_of["even"], *gold_of["odd"]],
                share=share,
                threshold=threshold,
            )
        )
    return points, fitted


def _fitted(
    table: pa.Table, gold: Gold, classes: Sequence[str], fusion: FusionConfig
) -> FusionConfig:
    """A product with the likeliest reliability, and then the likeliest weight."""
    triples = [[(one.start, one.end, one.label) for one in row] for row in gold]
    fit = fit_product(table, triples, classes, reliability=fusion.reliability)
    if fit is None:
        return fusion
    # Never quite certain: a reliability of 1 would leave other classes no chance at all.
    reliability = min(max(fit.reliability, 0.01), 0.99)
    fit = fit_product(table, triples, classes, reliability=reliability)
    weight = fusion.weight if fit is None else fit.weight
    return FusionConfig(strategy="product", weight=weight, reliability=reliability)
