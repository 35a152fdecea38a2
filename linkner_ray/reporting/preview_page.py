"""An HTML page of documents with their entities highlighted.

Text of documents is not trusted: markup is escaped, control characters and those that change the
direction of text are made visible, and the page allows no script.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from linkner_ray.errors import DataError
from linkner_ray.reporting.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
)
from linkner_ray.reporting.html_page import html_template
from linkner_ray.runs.counters import SOURCES

LABEL_COLOURS = (SKY, ORANGE, GREEN, PURPLE, VERMILION, YELLOW, BLUE, GREY)
"""By place in the label set; more labels than colours begin again, their names tell them apart."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of text; `entity` is None between entities."""

    text: str
    entity: Mapping[str, Any] | None


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
            `entities/part-*.parquet` written with `output.keep_text`.
        labels: Label ids in the order of their set.
        title: Heading of the page.
        notes: Sentences above the documents.

    Raises:
        DataError: If a row has no text, or its entities overlap or lie outside it.
    """
    return html_template("preview.html.j2").render(
        title=title,
        notes=notes,
        colours=dict(zip(labels, cycle(LABEL_COLOURS), strict=False)),
        places={label: place for place, label in enumerate(labels)},
        sources=SOURCES,
        documents=[
            {
                "doc_id": document["doc_id"],
                "url": document["url"],
                "link": _link(document["url"]),
                "num_routed": document["num_routed"],
                "entities": document["entities"],
                "pieces": _pieces(document),
            }
            for document in documents
        ],
    )


def _pieces(document: Mapping[str, Any]) -> list[_Piece]:
    """The whole text of a document, cut at the borders of its entities."""
    text = document.get("text")
    if text is None:
        raise DataError(
            f"document '{document['doc_id']}' has no text to show; run with output.keep_text=true"
        )
    pieces = []
    position = 0
    for entity in document["entities"]:
        start, end = entity["start"], entity["end"]
        if not position <= start < end <= len(text):
            raise DataError(
                f"document '{document['doc_id']}': the entity at {start}..{end} overlaps another "
                f"or lies outside a text of {len(text)} characters"
            )
        pieces += [_Piece(text[position:start], None), _Piece(text[start:end], entity)]
        position = end
    return [*pieces, _Piece(text[position:], None)]


def _link(url: str | None) -> str | None:
    """The address if it may be a link; a page can also claim one that begins with `javascript:`."""
    try:
        scheme = urlsplit(url or "").scheme
    except ValueError:  # such as an unclosed [ of an IPv6 host
        return None
    return url if scheme in ("http", "https") else None
