"""An HTML page of documents with their entities highlighted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from linkner_ray.errors import DataError, counted, refuse_bare_string
from linkner_ray.labels import NON_ENTITY
from linkner_ray.reporting.cards import Card, Mark, Probs, mark_entity, probs_of
from linkner_ray.reporting.html_page import render_page
from linkner_ray.reporting.tables import markdown_text

SHOWN_CHARS = 20_000
"""Of one document; a page of many long ones would not open in a browser."""


def render_preview(
    documents: Iterable[Mapping[str, Any]],
    labels: tuple[str, ...],
    *,
    title: str = "LinkNER preview",
    notes: tuple[str, ...] = (),
) -> str:
    """Render documents with their entities as one HTML page that needs nothing else.

    Args:
        documents: Rows with `doc_id`, `url`, `text`, `num_routed` and `entities`, such as those of
            `entities/part-*.parquet` written with `output.keep_text`. With `candidates` and
            `answers`, both models' probabilities are shown, too.
        labels: Label ids in the order of their set.
        title: Heading of the page.
        notes: Sentences above the documents.

    Raises:
        DataError: If a row has no text, or its entities overlap or lie outside it.
    """
    refuse_bare_string("notes", notes)
    refuse_bare_string("labels", labels)
    return render_page(
        "\n\n".join([f"# {markdown_text(title)}", *map(markdown_text, notes)]),
        title=title,
        cards=[_card(document, (NON_ENTITY, *labels)) for document in documents],
        labels=labels,
    )


def _card(document: Mapping[str, Any], classes: tuple[str, ...]) -> Card:
    text = document.get("text")
    if text is None:
        raise DataError(
            f"document '{document['doc_id']}' has no text to show; run with output.keep_text=true"
        )
    entities = document["entities"]
    routed = counted(document["num_routed"], "candidate")
    facts = f"{counted(len(entities), 'entity')}, {routed} sent to the LLM"
    if len(text) > SHOWN_CHARS:
        facts += f"; the first {SHOWN_CHARS:,} of {len(text):,} characters"
    pieces = _pieces(text, entities, probs_of(document, classes), name=document["doc_id"])
    return Card(title=document["doc_id"], url=document["url"], facts=facts, pieces=pieces)


def _pieces(
    text: str, entities: Sequence[Mapping[str, Any]], probs: Probs, *, name: str
) -> tuple[str | Mark, ...]:
    """The text as far as it is shown, cut at the borders of its entities."""
    pieces: list[str | Mark] = []
    position = 0
    for entity in entities:
        start, end = entity["start"], entity["end"]
        if not position <= start < end <= len(text):
            raise DataError(
                f"document '{name}': the entity at {start}..{end} overlaps another or lies outside "
                f"a text of {len(text)} characters"
            )
        if end > SHOWN_CHARS:
            break
        pieces += [text[position:start], mark_entity(text[start:end], entity, probs)]
        position = end
    return (*pieces, text[position:SHOWN_CHARS])
