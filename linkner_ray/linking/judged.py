"""Candidates and the LLM's answers about them as arrays.

Letters: N candidates, C classes with non-entity first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linkner_ray.schemas import list_offsets

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

UNANSWERED = -1
"""In place of a class: nobody was asked, or the reply could not be read."""

KINDS = (
    "predicted",
    "predicted, overlapped by a near miss",
    "near miss",
    "near miss that overlaps a predicted one",
)
"""Of two candidates that overlap one at most is an entity, so the kinds differ in how many are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """What is known of candidates before the LLM is asked.

    Attributes:
        probs: Of the local model. Shape (N, C).
        label: Class of each one's label, from 1 on. Shape (N,).
        kind: Index into `KINDS`. Shape (N,).
        document: Row of the document of each. Shape (N,).
    """

    probs: FloatArray
    label: IntArray
    kind: IntArray
    document: IntArray

    @classmethod
    def of(cls, lists: pa.ListArray, classes: Sequence[str]) -> Self:
        """Take the column `candidates` of the stages, document after document."""
        flat = lists.flatten()
        probs = pc.struct_field(flat, "label_probs").flatten().to_numpy(zero_copy_only=False)
        labels = pc.index_in(pc.struct_field(flat, "label"), pa.array(classes))
        predicted = pc.equal(pc.struct_field(flat, "kind"), "predicted")
        document = np.repeat(np.arange(len(lists)), np.diff(list_offsets(lists)))
        start, end = (
            pc.struct_field(flat, name).to_numpy(zero_copy_only=False).astype(np.int64)
            for name in ("start", "end")
        )
        return cls(
            probs=probs.astype(np.float64).reshape(len(flat), len(classes)),
            label=labels.to_numpy(zero_copy_only=False).astype(np.int64),
            kind=_kinds(document, start, end, predicted.to_numpy(zero_copy_only=False)),
            document=document,
        )

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: IntArray) -> Self:
        """Some of the candidates."""
        return type(self)(
            probs=self.probs[rows],
            label=self.label[rows],
            kind=self.kind[rows],
            document=self.document[rows],
        )

    @property
    def local(self) -> IntArray:
        """Class that the local model alone decides on: 0 for a near miss. Shape (N,)."""
        return np.where(self.kind < KINDS.index("near miss"), self.label, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the LLM says of N candidates.

    Attributes:
        said: Class it names, or `UNANSWERED`. Shape (N,).
        probs: Its probabilities, NaN where it gives none; None if it never gives any. Shape (N, C).
    """

    said: IntArray
    probs: FloatArray | None

    @classmethod
    def of(cls, lists: pa.ListArray, classes: Sequence[str]) -> Self:
        """Take the column `answers` of the stages, document after document."""
        flat = lists.flatten()
        labels = pc.fill_null(
            pc.index_in(pc.struct_field(flat, "label"), pa.array(classes)), UNANSWERED
        )
        none = pc.fill_null(pc.equal(pc.struct_field(flat, "verdict"), "non_entity"), False)
        said = pc.if_else(none, 0, labels).to_numpy(zero_copy_only=False).astype(np.int64)
        given = pc.struct_field(flat, "probs")
        if given.null_count == len(given):
            return cls(said=said, probs=None)
        probs = np.full((len(flat), len(classes)), np.nan)
        probs[given.is_valid().to_numpy(zero_copy_only=False)] = (
            given.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(classes))
        )
        return cls(said=said, probs=probs)

    def has_probs(self) -> NDArray[np.bool_]:
        """Whether each answer has probabilities. Shape (N,)."""
        if self.probs is None:
            return np.zeros(len(self.said), dtype=np.bool_)
        return np.asarray(np.isfinite(self.probs).all(axis=1), dtype=np.bool_)

    def take(self, rows: IntArray) -> Self:
        """Some of the answers."""
        return type(self)(
            said=self.said[rows], probs=None if self.probs is None else self.probs[rows]
        )


def _kinds(
    document: IntArray, start: IntArray, end: IntArray, predicted: NDArray[np.bool_]
) -> IntArray:
    """Index into `KINDS`; predicted candidates of a document do not overlap. Shape (N,)."""
    kinds = np.where(predicted, 0, 2)
    if not len(kinds):
        return kinds
    # One number line for all documents.
    offset = document * (int(end.max()) + 1)
    own, others = np.flatnonzero(predicted), np.flatnonzero(~predicted)
    own = own[np.argsort(offset[own] + start[own], kind="stable")]
    first = np.searchsorted(offset[own] + end[own], offset[others] + start[others], side="right")
    last = np.searchsorted(offset[own] + start[own], offset[others] + end[others], side="left")
    kinds[others[first < last]] = 3
    begins = np.bincount(first[first < last], minlength=len(own) + 1)
    ends = np.bincount(last[first < last], minlength=len(own) + 1)
    kinds[own[np.cumsum(begins - ends)[: len(own)] > 0]] = 1
    return kinds
