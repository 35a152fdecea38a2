"""Scores of routes and fusions of one labelled set, compared on the same draws of documents."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.corpora.scores import Counts, Entity, document_counts
from linkner_ray.evaluation.bootstrap import IntArray, Interval, Resampler
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities

Gold = Sequence[Collection[Entity]]


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
        """Points of F1 gained for each 1,000 questions; None without questions."""
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
        return self._point(linked, document_counts(self._gold, entity_triples(linked["entities"])))

    def points(self, routed: Iterable[pa.Table], fuse: FuseEntities) -> Iterator[Point]:
        """Scores of the same documents under one fusion and several routes.

        The tables differ in `routes`, and in `answers` as these ask. Fusion looks at one document
        at a time, so only documents whose routes differ from the table before are fused and scored
        again.
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
            counts[changed] = document_counts(gold, entity_triples(linked["entities"]))
            yield self._point(table, counts)

    def _point(self, routed: pa.Table, counts: IntArray) -> Point:
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
        true, false, missed = map(int, counts.sum(axis=0))
        scores = Counts(true_positives=true, false_positives=false, false_negatives=missed)
        return Point(
            asked_share=asked / max(1, len(routes)),
            num_asked=asked,
            num_questions=len(tokens),
            prompt_tokens=sum(value or 0 for value in tokens.values()),
            f1=scores.f1,
            precision=scores.precision,
            recall=scores.recall,
            gain=self._resampler.difference(self._local, counts),
        )

    def interval(self, predicted: Gold) -> tuple[float, float]:
        """Bounds of 95 % of a system's F1."""
        return self._resampler.interval(document_counts(self._gold, predicted))


def entity_triples(column: pa.ChunkedArray) -> list[set[Entity]]:
    """Entities of each document of a column as (start, end, label)."""
    return [{(e["start"], e["end"], e["label"]) for e in row} for row in column.to_pylist()]
