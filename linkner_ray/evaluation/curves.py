"""What asking an LLM gains, worked out from candidates whose answers are known.

Once every candidate has an answer, a run with any threshold, estimate or fusion can be had without
asking again: a route and a fusion are functions of the table. Beside the LLM stand an oracle that
answers by gold, the bound from above, and routers that ask any candidates, the bound from below.

Letters: D documents, N candidates.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from linkner_ray.config import RoutingConfig, Uncertainty
from linkner_ray.corpora.scores import Entity, document_counts
from linkner_ray.evaluation.bootstrap import Interval, Resampler
from linkner_ray.schemas import (
    ASKED_ROUTES,
    STAGE_COLUMNS,
    list_offsets,
    make_lists,
    with_field,
)
from linkner_ray.spanner.estimates import estimate, recalibrated_estimate
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities
from linkner_ray.stages.route_spans import RouteSpans

Gold = Sequence[Collection[Entity]]
FloatArray = NDArray[np.float64]

READ_OFF = ("confidence", "entropy")
"""Estimates that follow from a candidate's probabilities."""

Name = TypeVar("Name", bound=Hashable)

_ORACLE_KEY = "oracle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One system at one threshold.

    Attributes:
        asked_share: Share of the set's candidates that were asked about, in [0, 1].
        num_asked: How many.
        num_questions: Distinct questions among them.
        prompt_tokens: Of these, where the backend says.
        f1: Strict F1; `precision` and `recall` likewise.
        gain: F1 less that of the local model alone.
    """

    asked_share: float
    num_asked: int
    num_questions: int
    prompt_tokens: int
    f1: float
    precision: float
    recall: float
    gain: Interval

    @property
    def gain_per_1000(self) -> float | None:
        """Points of F1 gained for each 1,000 questions; None where nobody was asked."""
        if not self.num_questions:
            return None
        return 100 * self.gain.difference * 1000 / self.num_questions


class Judge:
    """Scores routes and fusions of one set against its gold and the local model alone.

    Args:
        gold: Of each document.
        local: What the local model alone finds there.
        samples: Draws of the bootstrap.
    """

    def __init__(self, gold: Gold, local: Gold, *, samples: int) -> None:
        """Draw documents once, so that all points are compared on the same draws."""
        self._gold = gold
        self._local = document_counts(gold, local)
        self._resampler = Resampler(len(gold), samples=samples)

    def point(self, linked: pa.Table) -> Point:
        """Scores of documents after fusion."""
        return self._point(linked, document_counts(self._gold, entity_triples(linked)))

    def points(self, routed: Iterable[pa.Table], fuse: FuseEntities) -> Iterator[Point]:
        """Scores of the same documents under one fusion and several routes.

        Fusion looks at one document at a time, so where its routes are as before, so is what
        comes of it.

        Args:
            routed: Tables that differ in `routes`, and in `answers` as these ask.
            fuse: The fusion.
        """
        counts = np.zeros((len(self._gold), 3), dtype=np.int64)
        before: pa.Array | None = None
        for table in routed:
            lists = table["routes"].combine_chunks()
            routes = lists.flatten()
            if before is None:
                changed = np.arange(table.num_rows)
            else:
                others = pc.list_parent_indices(lists).filter(pc.not_equal(routes, before))
                changed = np.unique(others.to_numpy())
            before = routes
            linked = apply_stage(fuse, table.take(pa.array(changed)))
            gold = [self._gold[index] for index in changed]
            counts[changed] = document_counts(gold, entity_triples(linked))
            yield self._point(table, counts)

    def _point(self, routed: pa.Table, counts: NDArray[np.int64]) -> Point:
        routes = pc.list_flatten(routed["routes"])
        answers = routed["answers"].combine_chunks().flatten()
        asked = pc.sum(pc.equal(routes, "llm")).as_py() or 0
        tokens = dict(
            zip(
                pc.struct_field(answers, "key").to_pylist(),
                pc.struct_field(answers, "prompt_tokens").to_pylist(),
                strict=True,
            )
        )
        tokens.pop(None, None)
        true, false, missed = (int(value) for value in counts.sum(axis=0))
        return Point(
            asked_share=asked / max(1, len(routes)),
            num_asked=asked,
            num_questions=len(tokens),
            prompt_tokens=sum(value or 0 for value in tokens.values()),
            f1=2 * true / max(1, 2 * true + false + missed),
            precision=true / max(1, true + false),
            recall=true / max(1, true + missed),
            gain=self._resampler.difference(self._local, counts),
        )

    def interval(self, predicted: Gold) -> tuple[float, float]:
        """Bounds of 95 % of a system's F1."""
        return self._resampler.interval(document_counts(self._gold, predicted))


def uncertainties(table: pa.Table) -> FloatArray:
    """Uncertainty of every candidate, document after document. Shape (N,)."""
    flat = table["candidates"].combine_chunks().flatten()
    values = pc.struct_field(flat, "uncertainty").to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


def read_off(table: pa.Table, name: Uncertainty, classes: Sequence[str]) -> FloatArray | None:
    """Another estimate of the same candidates, from the probabilities that they carry.

    Args:
        table: With `candidates`.
        name: The estimate.
        classes: `LabelSet.classes`.

    Returns:
        As the stage would have given it, shape (N,), document after document; None for an estimate
        that does not follow from probabilities.
    """
    if name not in READ_OFF:
        return None
    flat = table["candidates"].combine_chunks().flatten()
    lists = pc.struct_field(flat, "label_probs")
    flat_probs = np.array(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
    probs = flat_probs.reshape(len(flat), len(classes))
    # None of these estimates reads logits.
    values = estimate(name, torch.from_numpy(probs), torch.from_numpy(probs)).numpy()
    rows = np.flatnonzero(
        pc.equal(pc.struct_field(flat, "kind"), "predicted").to_numpy(zero_copy_only=False)
    )
    labels = pc.index_in(pc.struct_field(flat, "label"), pa.array(classes)).to_numpy(
        zero_copy_only=False
    )
    recalibrated = recalibrated_estimate(name, probs[rows], labels[rows].astype(np.int64))
    if recalibrated is not None:
        values[rows] = recalibrated
    return values.astype(np.float64)


def thresholds_for(uncertainty: FloatArray, shares: Iterable[float]) -> dict[float, float]:
    """For each share the uncertainty that as many candidates reach. No gold has a say.

    A share that asks nobody has a threshold above 1, one that asks all has 0. Equal uncertainties
    are asked together, so a share may come out larger than wanted.
    """
    ordered = np.sort(uncertainty)
    found = {}
    for share in shares:
        count = round(share * len(ordered))
        if share >= 1.0:
            found[share] = 0.0
        else:
            found[share] = float(ordered[len(ordered) - count]) if count else np.inf
    return found


def routed_from(answered: pa.Table, threshold: float) -> pa.Table | None:
    """The table as a run with this threshold would have it before fusion.

    Args:
        answered: Candidates with answers, null where none is known.
        threshold: Uncertainty from which a candidate is asked about; above 1 nobody is.

    Returns:
        None where an answer is needed that is not known.
    """
    table = answered.drop_columns([n for n in ("routes", "entities") if n in answered.schema.names])
    routing = RoutingConfig(threshold=min(threshold, 1.0))
    routed = apply_stage(RouteSpans(routing, has_llm=threshold <= 1.0), table)
    return answers_of_routes(routed)


def answers_of_routes(routed: pa.Table) -> pa.Table | None:
    """Keep the answers of candidates that are asked; None where one of them has none."""
    answers = routed["answers"].combine_chunks()
    flat = answers.flatten()
    routes = pc.list_flatten(routed["routes"]).combine_chunks()
    asked = pc.is_in(routes, pa.array(ASKED_ROUTES))
    if pc.any(pc.and_(asked, flat.is_null())).as_py():
        return None
    places = pa.array(np.arange(len(flat)), mask=~asked.to_numpy(zero_copy_only=False))
    lists = make_lists(flat.take(places), list_offsets(answers), STAGE_COLUMNS["answers"])
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
    """The same candidates and answers, their uncertainties dealt out anew."""
    values = np.random.default_rng(seed).permutation(uncertainties(table))
    return with_uncertainty(table, values)


def curve(
    answered: pa.Table, thresholds: Mapping[Name, float], fuse: FuseEntities, judge: Judge
) -> dict[Name, Point]:
    """Scores of one system at each threshold whose answers are all known.

    Args:
        answered: Candidates with what is known of their answers.
        thresholds: By any name, such as the share that they ask.
        fuse: The system's fusion.
        judge: Of the set.
    """
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
    """Mean F1, by share, of routers that ask as many candidates, but any."""
    found: dict[float, list[float]] = {}
    for seed in range(routers):
        dealt = shuffled(answered, seed)
        thresholds = thresholds_for(uncertainties(dealt), shares)
        for share, point in curve(dealt, thresholds, fuse, judge).items():
            found.setdefault(share, []).append(point.f1)
    return {share: float(np.mean(scores)) for share, scores in found.items()}


def entity_triples(table: pa.Table) -> list[set[Entity]]:
    """Entities of each document as (start, end, label)."""
    return [
        {(entity["start"], entity["end"], entity["label"]) for entity in entities}
        for entities in table["entities"].to_pylist()
    ]


def _oracle_answer(label: str | None, place: str) -> dict[str, object]:
    """What the oracle says, as a row of `schemas.ANSWER`."""
    return {
        "verdict": "non_entity" if label is None else "label",
        "label": label,
        "probs": None,
        "key": f"{_ORACLE_KEY}:{place}",
        "source": "llm",
        "prompt_tokens": None,
    }
