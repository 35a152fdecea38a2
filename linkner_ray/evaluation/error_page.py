"""A page of errors: confusion, boundaries, the most confident errors, and those the LLM made.

Text of corpora is not trusted: as in a preview, markup is escaped, control characters are made
visible, and the page allows no script.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from linkner_ray.corpora.scores import Entity, labels_by_place
from linkner_ray.evaluation.flips import decisions
from linkner_ray.evaluation.matching import boundary_errors
from linkner_ray.labels import NON_ENTITY
from linkner_ray.reporting.html_page import html_template

NUM_LISTED = 50
"""Examples of each kind on the page; how many there are is said beside them."""


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
        source: "local" or "llm".
        note: Anything else, such as gold's boundaries.
    """

    doc_id: str
    text: str
    start: int
    end: int
    ours: str
    gold: str
    uncertainty: float | None = None
    source: str = ""
    note: str = ""

    @property
    def pieces(self) -> tuple[str, str, str]:
        """Text before the span, the span, and text after it."""
        return self.text[: self.start], self.text[self.start : self.end], self.text[self.end :]


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
    name: str, predictions: pa.Table, confusion: Mapping[tuple[str, str], int]
) -> SetErrors:
    """Collect the errors of one set from rows of `schemas.PREDICTIONS`."""
    rows = predictions.to_pylist()
    gold = [[(one["start"], one["end"], one["label"]) for one in row["gold"]] for row in rows]
    boundary: list[Example] = []
    wrong: list[Example] = []
    for row, golden in zip(rows, gold, strict=True):
        labels = labels_by_place(golden)
        boundary += _boundary(row, golden)
        wrong += [
            _example(row, entity, gold=_named(labels.get(_place(entity))))
            for entity in row["entities"]
            if entity["label"] not in labels.get(_place(entity), ())
        ]
    spoilt = [
        _example(
            rows[one.document],
            {**one.candidate, "label": _named(one.after), "source": "llm"},
            gold=_named(one.truth),
            note=f"local: {one.local}",
        )
        for one in decisions(predictions, gold)
        if one.was_right and not one.is_right
    ]
    wrong.sort(key=_by_certainty)
    spoilt.sort(key=_by_certainty)
    return SetErrors(name=name, confusion=confusion, boundary=boundary, wrong=wrong, spoilt=spoilt)


def render_errors(sets: Sequence[SetErrors], labels: Sequence[str]) -> str:
    """Render the errors of all sets as one HTML page."""
    return html_template("errors.html.j2").render(
        sets=sets, classes=(*labels, NON_ENTITY), non_entity=NON_ENTITY, listed=NUM_LISTED
    )


def _boundary(row: Mapping[str, Any], gold: Collection[Entity]) -> list[Example]:
    """Entities of the output that overlap one of gold in other boundaries."""
    ours = {(one["start"], one["end"], one["label"]): one for one in row["entities"]}
    return [
        _example(
            row,
            ours[found],
            gold=golden[2],
            note=f"gold: {row['text'][golden[0] : golden[1]]}",
        )
        for golden, found in boundary_errors(gold, list(ours))
    ]


def _example(
    row: Mapping[str, Any], span: Mapping[str, Any], *, gold: str, note: str = ""
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
        note=note,
    )


def _by_certainty(example: Example) -> tuple[float, str, int]:
    uncertainty = 1.0 if example.uncertainty is None else example.uncertainty
    return uncertainty, example.doc_id, example.start


def _place(span: Mapping[str, Any]) -> tuple[int, int]:
    return span["start"], span["end"]


def _named(labels: Collection[str] | None) -> str:
    return ", ".join(sorted(labels)) if labels else NON_ENTITY
