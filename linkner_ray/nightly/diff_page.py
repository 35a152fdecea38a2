"""What changed between two runs, as a page with examples of it and for a terminal."""

from collections.abc import Sequence

from linkner_ray.errors import counted
from linkner_ray.nightly.diff import CAUSES, KINDS, Diff, name_cause
from linkner_ray.nightly.diff_rows import Change
from linkner_ray.reporting.cards import Card, describe_entity, mark_entity
from linkner_ray.reporting.html_page import render_page
from linkner_ray.reporting.tables import markdown_table, markdown_text
from linkner_ray.reporting.visible import make_visible

CONTEXT_CHARS = 80
"""Characters of a document shown before and after an entity."""


def render_diff(diff: Diff) -> str:
    """Render the counts of a comparison and its examples as one HTML page."""
    differing = [f"{step}: {line}" for step, lines in diff.changed.items() for line in lines]
    documents = [(name.replace("_", " "), count) for name, count in diff.documents.items()]
    relabelled = [(*pair, count) for pair, count in diff.relabelled.most_common()]
    parts = [
        f"# {markdown_text(diff.before)} \N{RIGHTWARDS ARROW} {markdown_text(diff.after)}",
        "## What the two plans decide otherwise",
        "\n".join(f"- {markdown_text(line)}" for line in differing or ["nothing"]),
        "## Documents",
        _markdown(("documents", "number"), documents),
        "## Entities",
        _markdown(("label", "source", *KINDS, "same"), label_rows(diff)),
        _markdown(("from", "to", "relabelled"), relabelled) if relabelled else "",
        "## What changed",
        _markdown(("cause", *KINDS), cause_rows(diff)),
        f"## {counted(len(diff.examples), 'example')}",
    ]
    return render_page(
        "\n\n".join(parts),
        title="LinkNER diff",
        cards=[_card(change, diff) for change in diff.examples],
        labels=tuple(dict.fromkeys(label for label, _, _ in sorted(diff.entities))),
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


def _markdown(head: tuple[str, ...], rows: Sequence[Sequence[object]]) -> str:
    cells = [[f"{v:,}" if isinstance(v, int) else markdown_text(v) for v in row] for row in rows]
    return markdown_table(dict(zip(head, row, strict=True)) for row in cells)


def _card(change: Change, diff: Diff) -> Card:
    entity, text = change.entity, change.text
    start, end = entity["start"], entity["end"]
    left, inside, right = "", entity["text"], ""
    if text is not None:
        first, last = start - CONTEXT_CHARS, end + CONTEXT_CHARS
        left = ("... " if first > 0 else "") + text[max(0, first) : start]
        inside = text[start:end]
        right = text[end:last] + (" ..." if last < len(text) else "")
    what = f"{change.kind}: {name_cause(change.cause, diff.changed)}"
    return Card(
        title=change.doc_id,
        url=change.url,
        group=what,
        facts=what,
        pieces=(left, mark_entity(inside, entity), right),
        foot=tuple(
            f"{name}: {describe_entity(one) if one else 'no entity'}".replace("\n", "; ")
            for name, one in (("before", change.before), ("after", change.after))
        ),
    )
