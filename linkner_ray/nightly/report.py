"""`night.md`: a night for the person on call."""

from collections.abc import Iterator, Mapping
from typing import Any

from linkner_ray.extract.reuse_report import reuse_line
from linkner_ray.nightly.diff import KINDS, name_cause
from linkner_ray.reporting.tables import markdown_pairs, markdown_table, markdown_text
from linkner_ray.runs.counters import routed_share

SHOWN_DRIFTS = 60
"""Rows of the table of drift; all are in `night.json`."""

_VERDICTS = ("alert", "warn", "stable", "few")


def describe_night(record: Mapping[str, Any]) -> str:
    """A night's record as Markdown, what has to be decided first."""
    return "\n".join(
        [
            f"# Night {record['night']}",
            "",
            *_decision(record),
            "",
            *_numbers(record),
            "",
            *_differences(record),
            *_drift(record),
            "## Steps",
            "",
            markdown_table(
                {"step": name, "seconds": f"{seconds:,.1f}"}
                for name, seconds in record["seconds"].items()
            ),
            "",
        ]
    )


def _decision(record: Mapping[str, Any]) -> Iterator[str]:
    if record["publish"]:
        yield "**To be published**: it is whole, and `latest` may name it."
    else:
        yield "**Held back**: `latest` stays where it was."
    drift = record["drift"]
    if not record["publish"] and not record["problems"]:
        yield (
            "Its drift is an alert. Look at `diff.html` and the table below; if the night is "
            "right, start it again with `night.accept_drift=true`, which extracts nothing anew."
        )
    if record["accepted_drift"]:
        yield f"Somebody accepted its drift: {'; '.join(record['accepted_drift'])}."
    for sentence in (*record["problems"], *record["notes"]):
        yield f"- {markdown_text(sentence)}"
    if drift is not None and drift["verdict"] == "few":
        yield "- Too few candidates for a verdict on drift."


def _numbers(record: Mapping[str, Any]) -> Iterator[str]:
    totals, costs = record["totals"], record["costs"]
    rows = {
        "built on": record["previous"] or "nothing",
        "documents": f"{totals['documents_read']:,} ({totals['documents_entities']:,} with "
        f"entities, {totals['documents_empty']:,} empty, {totals['documents_quarantined']:,} "
        "quarantined)",
        "reused": reuse_line(dict(costs)) or "nothing",
        "candidates": f"{totals['candidates']:,}, {routed_share(totals):.1%} routed",
        "questions": f"{totals['questions']:,}, {costs['questions_asked']:,} of them asked now",
        "entities": f"{totals['entities']:,}",
        "files verified": f"{record['verified_files']:,}",
        "plan": record["plan"],
    }
    if "self_check_sentences" in record:
        rows["self_check"] = f"{record['self_check_sentences']:,} sentences as where it was trained"
    if "estimate" in record:
        [row] = record["estimate"]["rows"]
        rows["estimate"] = (
            f"{record['estimate']['documents']:,} documents, {row['questions']:,} questions, if "
            "nothing could be reused"
        )
    yield markdown_pairs({name: markdown_text(value) for name, value in rows.items()})


def _differences(record: Mapping[str, Any]) -> Iterator[str]:
    diff = record["diff"]
    if diff is None:
        return
    yield from ("## Against the night before", "")
    documents = diff["documents"]
    yield (
        ", ".join(
            f"{documents.get(name, 0):,} documents {meaning}"
            for name, meaning in (
                ("same_text", "with the same text"),
                ("other_text", "with another text"),
                ("only_after", "new"),
                ("only_before", "gone"),
            )
        )
        + ". `diff.html` has examples."
    )
    if not diff["causes"]:
        return
    rows = [
        {"cause": name_cause(cause, diff["changed"])} | {k: f"{kinds.get(k, 0):,}" for k in KINDS}
        for cause, kinds in diff["causes"].items()
    ]
    yield from ("", markdown_table(rows), "")


def _drift(record: Mapping[str, Any]) -> Iterator[str]:
    drift = record["drift"]
    if drift is None:
        return
    rows = sorted(
        drift["drifts"], key=lambda row: (_VERDICTS.index(row["verdict"]), -(row["psi"] or 0))
    )
    yield from (
        "",
        "## Drift",
        "",
        "Population stability index (PSI); 1/2 is added to every bin. Few: too little for a "
        "verdict.",
        "",
        markdown_table(
            {
                "of": markdown_text(f"{row['kind']} {row['name']}"),
                "measure": row["measure"],
                "PSI": "-" if row["psi"] is None else f"{row['psi']:.3f}",
                "before": f"{row['count_before']:,}",
                "tonight": f"{row['count_after']:,}",
                "verdict": row["verdict"],
            }
            for row in rows[:SHOWN_DRIFTS]
        ),
    )
    if len(rows) > SHOWN_DRIFTS:
        yield f"\n{len(rows) - SHOWN_DRIFTS:,} more rows are in `night.json`."
    yield ""
