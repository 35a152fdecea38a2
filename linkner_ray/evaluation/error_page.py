"""A page of errors: confusion, boundaries, the most confident errors, and those the LLM made."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from linkner_ray.corpora.scores import Entity, labels_by_place
from linkner_ray.evaluation.flips import Decision, decisions
from linkner_ray.evaluation.matching import boundary_errors
from linkner_ray.labels import NON_ENTITY
from linkner_ray.reporting.cards import Card, Mark, describe_entity, probs_of
from linkner_ray.reporting.html_page import render_page
from linkner_ray.reporting.tables import markdown_table, markdown_text

NUM_LISTED = 50
"""Examples of each kind on the page; how many there are is said beside them."""

SPAN_CHARS = 60
"""Of an entity in the heading of an example."""

_LEGEND = f"""\
Confusion on equal boundaries: rows are gold, columns the output; {NON_ENTITY} is no entity with
these boundaries. A boundary error is an entity of the output that overlaps one of gold and begins
or ends elsewhere. The surest errors are the entities that gold does not have, those first of which
the local model was surest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A sentence with one error in it.

    Attributes:
        doc_id: Of the sentence.
        text: Whole.
        start: First character of the span in question.
        end: Character after its last.
        ours: Label in the output; the non-entity class where it has none there.
        gold: Labels of gold on the same boundaries, or what it has instead.
        uncertainty: Of the local model, in [0, 1].
        source: As `schemas.ENTITY`.
        hover: What both models said of the span.
        note: Anything else, such as what the local model said.
    """

    doc_id: str
    text: str
    start: int
    end: int
    ours: str
    gold: str
    uncertainty: float
    source: str
    hover: str
    note: str = ""

    def card(self, group: str) -> Card:
        """The sentence with the span marked."""
        span = self.text[self.start : self.end]
        mark = Mark(span, self.ours, self.source, self.uncertainty, self.hover)
        note = f"; {self.note}" if self.note else ""
        return Card(
            title=f"{span[:SPAN_CHARS]}: {self.ours}, gold {self.gold}{note}",
            group=group,
            facts=f"{group}; {self.doc_id}",
            pieces=(self.text[: self.start], mark, self.text[self.end :]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetErrors:
    """Errors of one set; `wrong` and `spoilt` ones with the least uncertain first.

    Attributes:
        name: Of the set.
        confusion: Of the output by (gold label, label here).
        boundary: Entities of the output that overlap one of gold in other boundaries.
        wrong: Entities of the output that are not gold.
        spoilt: Candidates that the LLM turned from right to wrong.
    """

    name: str
    confusion: Mapping[tuple[str, str], int]
    boundary: Sequence[Example]
    wrong: Sequence[Example]
    spoilt: Sequence[Example]


def find_errors(
    name: str,
    predictions: pa.Table,
    confusion: Mapping[tuple[str, str], int],
    classes: tuple[str, ...],
) -> SetErrors:
    """Collect the errors of one set from rows of `schemas.PREDICTIONS`."""
    rows = predictions.to_pylist()
    gold = [[(one["start"], one["end"], one["label"]) for one in row["gold"]] for row in rows]
    boundary: list[Example] = []
    wrong: list[Example] = []
    for row, golden in zip(rows, gold, strict=True):
        labels = labels_by_place(golden)
        boundary += _boundary(row, golden, classes)
        wrong += [
            _example(row, entity, classes, gold=_named(labels.get(_place(entity))))
            for entity in row["entities"]
            if entity["label"] not in labels.get(_place(entity), ())
        ]
    spoilt = [
        _example(
            rows[one.document],
            _asked_span(rows[one.document], one),
            classes,
            gold=_named(one.truth),
            note=f"local: {one.local}",
        )
        for one in decisions(predictions, gold)
        if one.was_right and not one.is_right
    ]
    wrong.sort(key=_by_certainty)
    spoilt.sort(key=_by_certainty)
    return SetErrors(name=name, confusion=confusion, boundary=boundary, wrong=wrong, spoilt=spoilt)


def render_errors(sets: Sequence[SetErrors], labels: tuple[str, ...]) -> str:
    """Render the errors of all sets as one HTML page."""
    classes = (*labels, NON_ENTITY)
    parts, cards = ["# What went wrong", _LEGEND], []
    for one in sets:
        kinds = {
            "boundary errors": one.boundary,
            "surest errors": one.wrong,
            "right before asking, wrong after": one.spoilt,
        }
        parts += [f"## {markdown_text(one.name)}", _confusion_table(one.confusion, classes)]
        found = (f"{kind}: {len(errors):,}" for kind, errors in kinds.items())
        parts.append(f"{', '.join(found)}; up to {NUM_LISTED} of each are below.")
        for kind, errors in kinds.items():
            cards += [error.card(f"{one.name}: {kind}") for error in errors[:NUM_LISTED]]
    return render_page("\n\n".join(parts), title="LinkNER errors", cards=cards, labels=classes)


def _confusion_table(confusion: Mapping[tuple[str, str], int], classes: tuple[str, ...]) -> str:
    """Counts by label of gold, down, and label here, across; the diagonal is bold."""
    rows = []
    for gold in classes:
        cells = {"": markdown_text(gold)}
        for ours in classes:
            count = f"{confusion.get((gold, ours), 0):,}"
            cells[markdown_text(ours)] = f"**{count}**" if gold == ours else count
        rows.append(cells)
    rows[-1][markdown_text(NON_ENTITY)] = ""
    return markdown_table(rows)


def _asked_span(row: Mapping[str, Any], decision: Decision) -> dict[str, Any]:
    """A candidate as the entity that the LLM made of it, or the non-entity."""
    candidate = decision.candidate
    answer = row["answers"][row["candidates"].index(candidate)] or {}
    refused = NON_ENTITY if answer.get("verdict") == "non_entity" else None
    return {
        **candidate,
        "label": _named(decision.after),
        "source": "llm",
        "score": None,
        "local_label": decision.local,
        "llm_label": answer.get("label") or refused,
    }


def _boundary(
    row: Mapping[str, Any], gold: Collection[Entity], classes: tuple[str, ...]
) -> list[Example]:
    """Entities of the output that overlap one of gold in other boundaries."""
    ours = {(one["start"], one["end"], one["label"]): one for one in row["entities"]}
    return [
        _example(
            row,
            ours[found],
            classes,
            gold=f"{row['text'][golden[0] : golden[1]][:SPAN_CHARS]}: {golden[2]}",
        )
        for golden, found in boundary_errors(gold, list(ours))
    ]


def _example(
    row: Mapping[str, Any],
    span: Mapping[str, Any],
    classes: tuple[str, ...],
    *,
    gold: str,
    note: str = "",
) -> Example:
    return Example(
        doc_id=row["doc_id"],
        text=row["text"],
        start=span["start"],
        end=span["end"],
        ours=span["label"],
        gold=gold,
        uncertainty=span["uncertainty"],
        source=span["source"],
        hover=describe_entity(span, probs_of(row, classes)),
        note=note,
    )


def _by_certainty(example: Example) -> tuple[float, str, int]:
    return example.uncertainty, example.doc_id, example.start


def _place(span: Mapping[str, Any]) -> tuple[int, int]:
    return span["start"], span["end"]


def _named(labels: Collection[str] | None) -> str:
    return ", ".join(sorted(labels)) if labels else NON_ENTITY
