"""Cards of an HTML page: texts with their entities marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SHOWN_PROBS = 4


class Mark(NamedTuple):
    """A marked stretch of a card's text; the fields in the order that the page's script reads."""

    text: str
    label: str
    source: str
    uncertainty: float
    hover: str
    """Lines that are shown while the pointer or the focus is on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A text with marks in it, and what stands around it."""

    title: str
    pieces: tuple[str | Mark, ...]
    """The text in its order."""

    group: str = ""
    """What cards can be chosen by, besides label, source and uncertainty."""

    url: str | None = None
    facts: str = ""
    """Shown under the title."""

    foot: tuple[str, ...] = ()
    """Lines under the text."""


Probs = Mapping[tuple[int, int], tuple[str, str]]
"""By start and end of a span: what the local model and what the LLM found probable there."""


def mark_entity(text: str, entity: Mapping[str, Any], probs: Probs | None = None) -> Mark:
    """Mark an entity, as `schemas.ENTITY`, with what both models said of it."""
    hover = describe_entity(entity, probs)
    return Mark(text, entity["label"], entity["source"], entity["uncertainty"], hover)


def describe_entity(entity: Mapping[str, Any], probs: Probs | None = None) -> str:
    """What both models said of an entity, a line each."""
    score = "" if entity["score"] is None else f"score {entity['score']:.3f}, "
    said = (probs or {}).get((entity["start"], entity["end"]), ("", ""))
    local, llm = (f"; {one}" if one else "" for one in said)
    return (
        f"{entity['label']} by {entity['source']}, {score}"
        f"uncertainty {entity['uncertainty']:.3f}\n"
        f"local label: {entity['local_label'] or 'none, it was a near miss'}{local}\n"
        f"LLM label: {entity['llm_label'] or 'none'}{llm}"
    )


def probs_of(row: Mapping[str, Any], classes: tuple[str, ...]) -> Probs:
    """The probabilities of a document's candidates; empty where these were not kept."""
    candidates, answers = row.get("candidates") or (), row.get("answers") or ()
    return {
        (candidate["start"], candidate["end"]): (
            name_probs(candidate["label_probs"], classes),
            name_probs(answer and answer["probs"], classes),
        )
        for candidate, answer in zip(candidates, answers, strict=True)
    }


def name_probs(probs: Sequence[float] | None, classes: tuple[str, ...]) -> str:
    """The most probable classes; nothing where there are no probabilities."""
    ranked = sorted(zip(probs, classes, strict=True), reverse=True) if probs else ()
    return ", ".join(f"{name} {prob:.3f}" for prob, name in ranked[:SHOWN_PROBS])
