"""Linking the two models: local and LLM answers become one flat list of entities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.config import FusionConfig
from linkner_ray.errors import ContractError
from linkner_ray.labels import NON_ENTITY
from linkner_ray.schemas import ENTITY, STAGE_COLUMNS
from linkner_ray.spans import RankedSpan, keep_flat

_CANDIDATE_FIELDS = ("start", "end", "label", "label_probs", "uncertainty", "kind")
_ANSWER_FIELDS = ("verdict", "label", "probs", "source")


class _Judged(NamedTuple):
    """A candidate, its route, and its answer if it was asked about; fields as in `schemas`."""

    start: int
    end: int
    local_label: str
    local_probs: Sequence[float]
    uncertainty: float
    kind: str
    route: str
    verdict: str | None
    llm_label: str | None
    llm_probs: Sequence[float] | None
    answer_source: str | None


@dataclass(frozen=True, slots=True)
class _Fused:
    """What fusion makes of one candidate, before overlaps are resolved."""

    judged: _Judged
    label: str
    score: float
    source: str

    def ranked(self) -> RankedSpan:
        """Itself among rivals: certain local entities first, then by score."""
        certain = self.judged.route == "local"
        return RankedSpan(
            self.judged.start, self.judged.end, self.label, (float(certain), self.score)
        )


class FuseEntities:
    """`text, candidates, routes, answers -> entities`: the final word on each candidate.

    Route local: a predicted candidate keeps its label; a doubted one never enters. Verdict label:
    the LLM's label, or the label of the highest product of both probabilities (`strategy`).
    Verdict non_entity: dropped. Unreadable or failed: a predicted candidate keeps its local label,
    a doubted one is dropped. What then overlaps within a document is resolved by `keep_flat`.
    """

    reads: ClassVar[tuple[str, ...]] = ("text", "candidates", "routes", "answers")
    adds: ClassVar[tuple[str, ...]] = ("entities",)

    def __init__(self, config: FusionConfig, classes: Sequence[str]) -> None:
        """Take the rules of one run.

        Args:
            config: The strategy for a verdict that names a label.
            classes: `LabelSet.classes`: the order of every probability vector.
        """
        self.strategy = config.strategy
        self.classes = tuple(classes)
        self._index = {name: i for i, name in enumerate(self.classes) if name != NON_ENTITY}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `entities`, by position in the text, none overlapping another.

        Raises:
            ContractError: If the columns do not align, a span lies outside its text, or a verdict
                or label is none of the known.
        """
        rows: list[tuple[Any, ...]] = []
        offsets = [0]
        for text, document in zip(batch["text"].to_pylist(), _documents(batch), strict=True):
            fused = [kept for judged in document if (kept := self._fuse(judged)) is not None]
            kept_indices = keep_flat([entity.ranked() for entity in fused])
            rows.extend(_entity_row(fused[index], text) for index in kept_indices)
            offsets.append(len(rows))
        return batch.append_column("entities", _entity_lists(rows, offsets))

    def _fuse(self, judged: _Judged) -> _Fused | None:
        """What becomes of one candidate; None if it is no entity."""
        if judged.route == "local":
            return self._local(judged)
        match judged.verdict:
            case "label":
                return self._linked(judged)
            case "non_entity":
                return None
            case "unreadable" | "failed":
                return self._local(judged)
        raise ContractError(f"FuseEntities: verdict '{judged.verdict}' is none of the known")

    def _local(self, judged: _Judged) -> _Fused | None:
        """The local model's word, which a doubted span does not have."""
        if judged.kind == "doubted":
            return None
        score = judged.local_probs[self._class(judged.local_label)]
        return _Fused(judged, judged.local_label, score, "local")

    def _linked(self, judged: _Judged) -> _Fused | None:
        """The word of a verdict that names a label."""
        llm_index = self._class(judged.llm_label)
        if judged.llm_probs is None:
            # Without probabilities there is nothing to multiply: the choice itself decides.
            label, score = self.classes[llm_index], judged.local_probs[llm_index]
        elif self.strategy == "override":
            label, score = self.classes[llm_index], judged.llm_probs[llm_index]
        else:
            label, score = self._product(judged.local_probs, judged.llm_probs, llm_index)
        if label == NON_ENTITY:
            return None
        return _Fused(judged, label, score, str(judged.answer_source))

    def _product(
        self, local_probs: Sequence[float], llm_probs: Sequence[float], llm_index: int
    ) -> tuple[str, float]:
        """Class of the highest product of two distributions, and its probability.

        Args:
            local_probs: Probability of each class, non-entity first. Shape (C,).
            llm_probs: The same by the LLM. Shape (C,).
            llm_index: The class the LLM named; decides ties, and distributions without common
                ground.
        """
        products = [ours * theirs for ours, theirs in zip(local_probs, llm_probs, strict=True)]
        total = sum(products)
        if total == 0:
            return self.classes[llm_index], llm_probs[llm_index]
        best = max(range(len(products)), key=lambda index: (products[index], index == llm_index))
        return self.classes[best], products[best] / total

    def _class(self, label: str | None) -> int:
        if label not in self._index:
            raise ContractError(f"FuseEntities: label '{label}' is not one of {tuple(self._index)}")
        return self._index[label]


def _documents(batch: pa.Table) -> Iterator[Iterator[_Judged]]:
    """The candidates of each document, with their routes and answers."""
    candidates, routes, answers = (
        batch[name].combine_chunks() for name in ("candidates", "routes", "answers")
    )
    lengths = pc.list_value_length(candidates)
    if lengths.null_count:
        raise ContractError(f"FuseEntities: {lengths.null_count} documents have no candidates")
    for name, column in (("routes", routes), ("answers", answers)):
        if not lengths.equals(pc.list_value_length(column)):
            raise ContractError(f"FuseEntities: '{name}' does not align with 'candidates'")
    columns = (
        *_flat_fields(candidates, _CANDIDATE_FIELDS),
        routes.flatten().to_pylist(),
        *_flat_fields(answers, _ANSWER_FIELDS),
    )
    judged = map(_Judged._make, zip(*columns, strict=True))
    for length in lengths.to_pylist():
        yield islice(judged, length)


def _flat_fields(lists: pa.ListArray, names: Sequence[str]) -> list[list[Any]]:
    """Values of some fields of a list of structs, over all lists; null where the struct is."""
    flat = lists.flatten()
    return [pc.struct_field(flat, name).to_pylist() for name in names]


def _entity_row(entity: _Fused, text: str) -> tuple[Any, ...]:
    """The values of one entity in the order of `schemas.ENTITY`."""
    judged = entity.judged
    if not 0 <= judged.start < judged.end <= len(text):
        raise ContractError(
            f"FuseEntities: span {judged.start}..{judged.end} lies outside a text of "
            f"{len(text)} characters"
        )
    return (
        judged.start,
        judged.end,
        text[judged.start : judged.end],
        entity.label,
        entity.score,
        judged.uncertainty,
        entity.source,
        judged.local_label if judged.kind == "predicted" else None,
        judged.llm_label,
    )


def _entity_lists(rows: Sequence[tuple[Any, ...]], offsets: Sequence[int]) -> pa.ListArray:
    """Entities of all documents, one list a document."""
    columns = list(zip(*rows, strict=True)) or [()] * ENTITY.num_fields
    fields = [ENTITY.field(index) for index in range(ENTITY.num_fields)]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, fields, strict=True)]
    entities = pa.StructArray.from_arrays(arrays, fields=fields)
    positions = pa.array(offsets, pa.int32())
    return pa.ListArray.from_arrays(positions, entities, type=STAGE_COLUMNS["entities"])
