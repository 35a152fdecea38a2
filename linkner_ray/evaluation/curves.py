"""What asking an LLM gains, computed from candidates whose answers are known.

Once every candidate has an answer, runs with any threshold or estimate are computed without asking
again: routing and fusion are functions of the table. The LLM is compared with an oracle that
answers by gold, an upper bound, and with routers that choose candidates at random, a lower bound.

Letters: D documents, N candidates.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import RoutingConfig
from linkner_ray.evaluation.candidates import uncertainties
from linkner_ray.evaluation.detection import FloatArray
from linkner_ray.evaluation.judge import Gold, Judge, Point
from linkner_ray.linking.same_name import share_answers
from linkner_ray.schemas import (
    ASKED_ROUTES,
    STAGE_COLUMNS,
    list_offsets,
    make_lists,
    with_field,
)
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.route_spans import RouteSpans

Name = TypeVar("Name", bound=Hashable)


def thresholds_for(uncertainty: FloatArray, shares: Iterable[float]) -> dict[float, float]:
    """Threshold of uncertainty that sends each share of the candidates to the LLM.

    A share of 0 has a threshold above 1, a share of 1 has 0. Candidates of equal uncertainty are
    asked together, so more may be asked than wanted.
    """
    falling = np.concatenate([[np.inf], np.sort(uncertainty)[::-1]])
    return {
        share: 0.0 if share >= 1.0 else float(falling[round(share * len(uncertainty))])
        for share in shares
    }


def routed_from(answered: pa.Table, threshold: float) -> pa.Table | None:
    """The table as a run with this threshold would have it before fusion; above 1 none is asked.

    None where an answer is needed that is not known.
    """
    table = answered.drop_columns([n for n in ("routes", "entities") if n in answered.schema.names])
    routing = RoutingConfig(threshold=min(threshold, 1.0), per_name=None)
    routed = apply_stage(RouteSpans(routing, has_llm=threshold <= 1.0), table)
    return answers_of_routes(routed)


def answers_of_routes(routed: pa.Table) -> pa.Table | None:
    """Keep the answers that count by the routes; None where a candidate that is asked has none."""
    answers = routed["answers"].combine_chunks()
    flat = answers.flatten()
    routes = pc.list_flatten(routed["routes"]).combine_chunks()
    asked = pc.is_in(routes, pa.array(ASKED_ROUTES))
    if pc.any(pc.and_(asked, flat.is_null())).as_py():
        return None
    places = pa.array(np.arange(len(flat)), mask=~asked.to_numpy(zero_copy_only=False))
    shared = share_answers(routed, flat.take(places))
    lists = make_lists(shared, list_offsets(answers), STAGE_COLUMNS["answers"])
    return routed.drop_columns(["answers"]).append_column("answers", lists)


def answered_by_gold(candidates: pa.Table, gold: Gold) -> pa.Table:
    """Every candidate answered by gold: its label there, else non-entity."""
    rows = []
    for row, (found, golden) in enumerate(
        zip(candidates["candidates"].to_pylist(), gold, strict=True)
    ):
        label_of = {(start, end): label for start, end, label in golden}
        rows.append(
            [
                # A question each: the oracle is asked about a span, not about a text.
                _oracle_answer(label_of.get((one["start"], one["end"])), f"{row}:{number}")
                for number, one in enumerate(found)
            ]
        )
    table = candidates.drop_columns(
        [n for n in ("routes", "answers", "entities") if n in candidates.schema.names]
    )
    return table.append_column("answers", pa.array(rows, STAGE_COLUMNS["answers"]))


def with_uncertainty(table: pa.Table, values: FloatArray) -> pa.Table:
    """The same candidates with other uncertainties. Shape (N,), document after document."""
    lists = table["candidates"].combine_chunks()
    column = with_field(lists, "uncertainty", pa.array(values, pa.float32()))
    where = table.schema.get_field_index("candidates")
    return table.set_column(where, "candidates", column)


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    """The same candidates and answers, with their uncertainties permuted."""
    values = np.random.default_rng(seed).permutation(uncertainties(table))
    return with_uncertainty(table, values)


def curve(
    answered: pa.Table, thresholds: Mapping[Name, float], fuse: FuseEntities, judge: Judge
) -> dict[Name, Point]:
    """Scores of one system at each threshold whose answers are all known, by its name."""
    routed = {}
    # From few asked to many, so that little changes from one to the next.
    for name, threshold in sorted(thresholds.items(), key=lambda item: -item[1]):
        table = routed_from(answered, threshold)
        if table is not None:
            routed[name] = table
    return dict(zip(routed, judge.points(routed.values(), fuse), strict=True))


def random_curve(
    answered: pa.Table,
    shares: Sequence[float],
    fuse: FuseEntities,
    judge: Judge,
    *,
    routers: int,
) -> dict[float, float]:
    """Mean F1 by share of routers that ask the same number of candidates, chosen at random."""
    found: dict[float, list[float]] = {}
    for seed in range(routers):
        dealt = shuffled(answered, seed)
        thresholds = thresholds_for(uncertainties(dealt), shares)
        for share, point in curve(dealt, thresholds, fuse, judge).items():
            found.setdefault(share, []).append(point.f1)
    return {share: float(np.mean(scores)) for share, scores in found.items()}


def _oracle_answer(label: str | None, place: str) -> dict[str, object]:
    """What the oracle says, as a row of `schemas.ANSWER`."""
    return {
        "verdict": "non_entity" if label is None else "label",
        "label": label,
        "probs": None,
        "key": f"oracle:{place}",
        "source": "llm",
        "prompt_tokens": None,
    }
