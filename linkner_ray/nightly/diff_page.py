"""A page to look at: what changed between two runs, and examples of it.

Text from documents is hostile until shown otherwise: as in a preview, markup is escaped, control
characters are made visible, and the page allows no script at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from linkner_ray.nightly.diff import CAUSES, KINDS, Diff, name_cause
from linkner_ray.nightly.diff_rows import Change
from linkner_ray.reporting.html_page import html_template
from linkner_ray.reporting.visible import make_visible

CONTEXT_CHARS = 80
"""Characters of a document shown before and after an entity."""


@dataclass(frozen=True, slots=True)
class _Example:
    change: Change
    cause: str
    left: str
    inside: str
    right: str


def render_diff(diff: Diff) -> str:
    """Render the counts of a comparison and its examples as one HTML page."""
    return html_template("diff.html.j2").render(
        diff=diff,
        kinds=KINDS,
        document_rows=[(name.replace("_", " "), number) for name, number in diff.documents.items()],
        cause_rows=cause_rows(diff),
        label_rows=label_rows(diff),
        relabelled_rows=[(*pair, number) for pair, number in diff.relabelled.most_common()],
        examples=[_example(change, diff) for change in diff.examples],
    )


def cause_rows(diff: Diff) -> list[tuple[str | int, ...]]:
    """Each cause there is, with its changes of each kind."""
    rows = [(cause, [diff.causes[cause, kind] for kind in KINDS]) for cause in CAUSES]
    return [(name_cause(cause, diff.changed), *counts) for cause, counts in rows if sum(counts)]


def label_rows(diff: Diff) -> list[tuple[str | int, ...]]:
    """Each label and source, with the entities of each kind and those that are the same."""
    pairs = sorted({(label, source) for label, source, _ in diff.entities})
    return [
        (label, source, *(diff.entities[label, source, kind] for kind in (*KINDS, "same")))
        for label, source in pairs
    ]


def describe_diff(diff: Diff) -> str:
    """The counts for a reader at a terminal."""
    counts = (f"{name.replace('_', ' ')} {n:,}" for name, n in diff.documents.items())
    documents = ", ".join(counts)
    differing = [line for lines in diff.changed.values() for line in lines]
    lines = [
        f"{diff.before} -> {diff.after}",
        *(f"  {make_visible(line, one_line=True)}" for line in differing or ["the plans agree"]),
        "",
        f"documents  {documents}",
        "",
        *_table(["label", "source", *KINDS, "same"], label_rows(diff)),
        "",
        *_table(["cause", *KINDS], cause_rows(diff)),
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in (head, *rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if isinstance(value, int) else cell.ljust(width)
            for cell, width, value in zip(row, widths, rows[0] if rows else head, strict=True)
        ).rstrip()
        for row in cells
    ]


def _example(change: Change, diff: Diff) -> _Example:
    entity, text, cause = change.entity, change.text, name_cause(change.cause, diff.changed)
    if text is None:
        return _Example(change, cause, "", entity["text"], "")
    start, end = entity["start"], entity["end"]
    return _Example(
        change,
        cause,
        text[max(0, start - CONTEXT_CHARS) : start],
        text[start:end],
        text[end : end + CONTEXT_CHARS],
    )
