"""Linking the two models: local and LLM answers become one flat list of entities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from linkner_ray.errors import ContractError
from linkner_ray.labels import NON_ENTITY
from linkner_ray.linking.judged import Answers, Candidates
from linkner_ray.linking.link import Link
from linkner_ray.schemas import ENTITY, LLM_ROUTES, STAGE_COLUMNS, make_lists, offsets_of
from linkner_ray.spans import RankedSpan, keep_flat

_CANDIDATE_FIELDS = ("start", "end", "label", "label_probs", "uncertainty", "kind")
_ANSWER_FIELDS = ("verdict", "label", "probs", "source")

DECIDED_ROUTES = ("local", "audit")
"""Routes of certain candidates; a candidate that was asked about never displaces one."""


class _Judged(NamedTuple):
    """A candidate, its route, and the answer that it has; fields as in `schemas`."""

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
    linked: tuple[int, float] | None
    """Class and score that a link decides on; None without a link."""


@dataclass(frozen=True, slots=True)
class _Fused:
    """What fusion makes of one candidate, before overlaps are resolved."""

    judged: _Judged
    label: str
    score: float
    source: str

    def ranked(self) -> RankedSpan:
        """Its rank among overlapping spans: certain local entities first, then by score."""
        certain = self.judged.route in DECIDED_ROUTES and self.judged.linked is None
        return RankedSpan(
            self.judged.start, self.judged.end, self.label, (float(certain), self.score)
        )


class FuseEntities:
    """`text, candidates, routes, answers -> entities`: the final word on each candidate.

    Only routes `llm` and `same_name` let the LLM decide. On every other route, and where an answer
    is missing or unreadable, a predicted candidate keeps its label and a near miss is left out. A
    readable answer overrides: the LLM's label, and non-entity drops the span. A link decides by
    both models instead, as dev showed. `keep_flat` then resolves overlaps within a document:
    certain candidates that were not asked about come first, the others by score; under a link all
    go by score.
    """

    reads: ClassVar[tuple[str, ...]] = ("text", "candidates", "routes", "answers")
    adds: ClassVar[tuple[str, ...]] = ("entities",)

    def __init__(self, classes: Sequence[str], link: Link | None = None) -> None:
        """Take the rules of one run.

        Args:
            classes: `LabelSet.classes`: the order of every probability vector.
            link: Decides where there is one; else the LLM's word does.
        """
        self.link = link
        self.classes = tuple(classes)
        self._index = {name: i for i, name in enumerate(self.classes) if name != NON_ENTITY}

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Add `entities`, by position in the text, none overlapping another.

        Raises:
            ContractError: If the columns do not align, a span lies outside its text, or a verdict
                or label is unknown.
        """
        rows: list[tuple[Any, ...]] = []
        lengths = []
        documents = _documents(batch, self._linked(batch))
        for text, document in zip(batch["text"].to_pylist(), documents, strict=True):
            fused = [kept for judged in document if (kept := self._fuse(judged)) is not None]
            kept_indices = keep_flat([entity.ranked() for entity in fused])
            rows.extend(_entity_row(fused[index], text) for index in kept_indices)
            lengths.append(len(kept_indices))
        return batch.append_column("entities", _entity_lists(rows, lengths))

    def _linked(self, batch: pa.Table) -> Iterator[tuple[int, float] | None]:
        """What the link decides on each candidate, did the LLM have a say in it."""
        if self.link is None:
            return repeat(None)
        candidates = Candidates.of(batch["candidates"].combine_chunks(), self.classes)
        answers = Answers.of(batch["answers"].combine_chunks(), self.classes)
        classes, scores = self.link.fuse(candidates, answers)
        return zip(classes.tolist(), scores.tolist(), strict=True)

    def _fuse(self, judged: _Judged) -> _Fused | None:
        """What becomes of one candidate; None if it is no entity."""
        if judged.route not in LLM_ROUTES:
            return self._local(judged)
        match judged.verdict:
            case "label":
                chosen = self._class(judged.llm_label)
            case "non_entity":
                chosen = 0
            case "unreadable" | "failed":
                return self._local(judged)
            case _:
                raise ContractError(
                    f"FuseEntities: verdict '{judged.verdict}' is none of the known"
                )
        probs = judged.llm_probs or judged.local_probs
        best, score = judged.linked or (chosen, probs[chosen])
        if best == 0:
            return None
        source = str(judged.answer_source) if judged.route == "llm" else judged.route
        return _Fused(judged, self.classes[best], score, source)

    def _local(self, judged: _Judged) -> _Fused | None:
        """The entity by the local model alone; None for a near miss."""
        if judged.kind == "near_miss":
            return None
        score = judged.local_probs[self._class(judged.local_label)]
        return _Fused(judged, judged.local_label, score, "local")

    def _class(self, label: str | None) -> int:
        if label not in self._index:
            raise ContractError(f"FuseEntities: label '{label}' is not one of {tuple(self._index)}")
        return self._index[label]


def _documents(
    batch: pa.Table, linked: Iterator[tuple[int, float] | None]
) -> Iterator[Iterator[_Judged]]:
    """The candidates of each document, with their routes and answers, and what a link decides."""
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
    judged = (_Judged._make((*row, next(linked))) for row in zip(*columns, strict=True))
    for length in lengths.to_pylist():
        yield islice(judged, length)


def _flat_fields(lists: pa.ListArray, names: Sequence[str]) -> list[list[Any]]:
    """Values of some fields of a list of structs, over all lists; null where the struct is."""
    flat = lists.flatten()
    return [pc.struct_field(flat, name).to_pylist() for name in names]


def _llm_label(judged: _Judged) -> str | None:
    """The LLM's label, where the LLM decides."""
    if judged.route not in LLM_ROUTES:
        return None
    return NON_ENTITY if judged.verdict == "non_entity" else judged.llm_label


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
        _llm_label(judged),
    )


def _entity_lists(rows: Sequence[tuple[Any, ...]], lengths: Sequence[int]) -> pa.ListArray:
    """Entities of all documents, one list a document."""
    columns = list(zip(*rows, strict=True)) or [()] * ENTITY.num_fields
    fields = [ENTITY.field(index) for index in range(ENTITY.num_fields)]
    arrays = [pa.array(c, field.type) for c, field in zip(columns, fields, strict=True)]
    entities = pa.StructArray.from_arrays(arrays, fields=fields)
    return make_lists(entities, offsets_of(lengths), STAGE_COLUMNS["entities"])
