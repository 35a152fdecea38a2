"""`linkner predict`: what a checkpoint finds in a few texts, through the stages of a run."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.abc import MetaPathFinder
from typing import Any

import pyarrow as pa
import typer

from linkner_ray.api import LinkNER
from linkner_ray.reporting.found import FoundSpan
from linkner_ray.reporting.visible import make_visible
from linkner_ray.schemas import DOCUMENTS

COLORS = ("green", "cyan", "yellow", "magenta", "blue", "red")
"""Of the labels in their order, from the beginning again when there are more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPrediction:
    """What a model found in one text.

    Attributes:
        text: As it was given.
        entities: What it calls entities, by position; none overlap.
        near_misses: Spans that lost, by position; may overlap each other and entities.
    """

    text: str
    entities: tuple[FoundSpan, ...]
    near_misses: tuple[FoundSpan, ...]


def predict_text(linkner: LinkNER, text: str) -> TextPrediction:
    """Find the entities of a text, and the near misses."""
    document = {"doc_id": "text", "url": None, "lang": None, "text": text}
    table = linkner.run(pa.Table.from_pylist([document], schema=DOCUMENTS))
    [entities], [candidates] = table["entities"].to_pylist(), table["candidates"].to_pylist()
    classes = linkner.label_set.classes
    shown = tuple(field.name for field in fields(FoundSpan))
    return TextPrediction(
        text=text,
        entities=tuple(FoundSpan(**{name: one[name] for name in shown}) for one in entities),
        near_misses=tuple(
            FoundSpan(
                start=one["start"],
                end=one["end"],
                text=text[one["start"] : one["end"]],
                label=one["label"],
                score=one["label_probs"][classes.index(one["label"])],
                uncertainty=one["uncertainty"],
            )
            for one in candidates
            if one["kind"] == "near_miss"
        ),
    )


@contextmanager
def without_pandas() -> Iterator[None]:
    """Let pyarrow find no pandas, which it would import for nothing.

    At its first array pyarrow imports pandas wherever it is installed, so as to know its columns: a
    fifth of the processor time of `linkner predict`. For a command, whose process is ours; pyarrow
    asks again when something is converted to pandas. Where transformers is loaded, which looks for
    other packages at any time, nothing is hidden.
    """
    if {"pandas", "transformers"} & set(sys.modules):
        yield
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _NoPandas(MetaPathFinder):
    """Says of pandas that it is not installed."""

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used here", name=fullname)


def as_tree(prediction: TextPrediction, *, near_misses: bool) -> dict[str, Any]:
    """A prediction for JSON."""
    tree = asdict(prediction)
    if not near_misses:
        del tree["near_misses"]
    return tree


def render(
    prediction: TextPrediction, labels: Sequence[str], *, near_misses: bool, colored: bool
) -> str:
    """A prediction for a reader: the text with its entities marked, then a line for each span.

    Args:
        prediction: What was found.
        labels: Label ids in the order of the model, which gives each its color.
        near_misses: Whether to list the near misses too.
        colored: Whether to mark entities by color, for a terminal; otherwise by brackets.
    """
    color_of = dict(zip(labels, COLORS * len(labels), strict=False)) if colored else {}
    lines = [_marked_text(prediction, color_of), ""]
    sections = [("entities", prediction.entities)]
    if near_misses:
        sections.append(("near misses", prediction.near_misses))
    for title, spans in sections:
        lines.append(f"{len(spans)} {title}")
        lines.extend(_describe(span, labels, color_of) for span in spans)
    return "\n".join(lines)


def _marked_text(prediction: TextPrediction, color_of: Mapping[str, str]) -> str:
    parts: list[str] = []
    position = 0
    for entity in prediction.entities:
        parts.append(_visible(prediction.text[position : entity.start]))
        content = _visible(entity.text)
        if color_of:
            parts.append(typer.style(content, fg=color_of[entity.label], bold=True))
        else:
            parts.append(f"[{content} {entity.label} {entity.score:.2f}]")
        position = entity.end
    parts.append(_visible(prediction.text[position:]))
    return "".join(parts)


def _describe(span: FoundSpan, labels: Sequence[str], color_of: Mapping[str, str]) -> str:
    """Label, score, uncertainty, offsets and text of a span in columns."""
    label = f"{span.label:<{max(map(len, labels))}}"
    if color_of:
        label = typer.style(label, fg=color_of[span.label], bold=True)
    offsets = f"{span.start}..{span.end}"
    content = make_visible(span.text, one_line=True)
    return (
        f"  {label}  score {span.score:.3f}  uncertainty {span.uncertainty:.3f}  {offsets:<9}  "
        f'"{content}"'
    )


def _visible(text: str) -> str:
    """Text in which line breaks are the only control characters left.

    A carriage return would let the rest of a line cover what stands before it.
    """
    return "\n".join(make_visible(line, one_line=True) for line in text.split("\n"))
