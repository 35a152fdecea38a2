"""The report of a run: a page to read, the same as JSON, and pictures."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import style

from linkner_ray.corpora.scores import Counts, Scores
from linkner_ray.errors import counted, refuse_bare_string
from linkner_ray.reporting.figures import as_png, as_svg
from linkner_ray.reporting.html_page import render_page
from linkner_ray.reporting.run_plots import (
    plot_entities,
    plot_f1,
    plot_seconds,
    plot_timeline,
    plot_uncertainty,
)
from linkner_ray.reporting.tables import markdown_text
from linkner_ray.reporting.unit_report import QUANTILES, UnitsReport, report_units
from linkner_ray.runs.counters import (
    AUDIT_OUTCOMES,
    LANGUAGE_COUNTER,
    SKIPPED_COUNTER,
    SKIPPED_LANGUAGE,
    SOURCES,
    VERDICTS,
    audit_counter,
    by_reason,
    label_counter,
    label_source_counter,
    mean_option_mass,
    routed_share,
    skipped_languages,
    source_counter,
)
from linkner_ray.runs.timeline import Timeline

BILL_ROWS = {
    "questions": "questions asked",
    "prompt_tokens": "prompt tokens of these",
    "prompt_tokens_computed": "- computed; the others were in the engine's prefix cache",
    "seconds": "seconds of the run",
    "price": "price, by `llm.price_per_million_tokens` and `llm.price_per_gpu_hour`",
}
"""Rows of the table of what 1,000 documents took."""

SLOWEST_UNITS = 5
"""Units listed in the page; the JSON has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportScores:
    """The same documents scored with and without the LLM."""

    name: str
    """What was scored, such as "CoNLL-2003 test"."""

    local: Scores
    linked: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything a report says; values only."""

    title: str
    run_id: str
    totals: Mapping[str, int]
    """Counters as `runs.counters` names them."""

    labels: Sequence[str]
    """Label ids in the order of their set."""

    routing_threshold: float | None
    """None for a run with a link, which goes by `routing.min_gain`."""

    config: Mapping[str, Any]
    """As resolved, JSON values only."""

    versions: Mapping[str, str]
    """Package, model or file to its version or digest."""

    seconds: Mapping[str, float]
    """Wall-clock seconds of each step of the job, in order."""

    per_1000_documents: Mapping[str, float] = field(default_factory=dict)
    """As `runs.bill` has it; empty for a run that did no unit."""

    units: UnitsReport = field(default_factory=lambda: report_units(()))
    timeline: Timeline | None = None
    """Of the units this run did; None if it did none."""

    scores: Sequence[ReportScores] = ()
    notes: tuple[str, ...] = ()
    """Sentences for the reader, such as what the model was trained on."""

    def __post_init__(self) -> None:
        refuse_bare_string("notes", self.notes)
        refuse_bare_string("labels", self.labels)


def write_report(run: RunReport, *, write_bytes: Callable[[str, bytes], None]) -> None:
    """Write `report.md` with its pictures, `report.html` and `report.json` into a run's folder."""
    pictures = _pictures(run)
    for name, (png, _) in pictures.items():
        write_bytes(f"plots/{name}.png", png)
    write_bytes("report.json", report_json(run))
    markdown = render_markdown(run, pictures=tuple(pictures))
    write_bytes("report.md", markdown.encode())
    drawn = {f"plots/{name}": svg for name, (_, svg) in pictures.items()}
    write_bytes("report.html", render_page(markdown, title=run.title, pictures=drawn).encode())


def report_json(run: RunReport) -> bytes:
    """The report as JSON, with stable keys."""
    tree = asdict(run)
    tree["routed_share"] = routed_share(run.totals)
    tree["start_option_mass"] = mean_option_mass(run.totals)
    tree["stage_seconds"] = tree["units"].pop("stage_seconds")
    if run.timeline is not None:
        for name, pool in run.timeline.pools.items():
            tree["timeline"]["pools"][name]["share"] = pool.share
    tree["scores"] = {
        scores.name: {
            "local": _scores_as_dict(scores.local),
            "linked": _scores_as_dict(scores.linked),
        }
        for scores in run.scores
    }
    return (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode()


def render_markdown(run: RunReport, *, pictures: tuple[str, ...] = ()) -> str:
    """The page; `pictures` are the names of those that stand in `plots/` beside it."""
    environment = Environment(
        loader=PackageLoader("linkner_ray.reporting"),
        autoescape=False,  # noqa: S701 - Markdown; cells from outside go through `cell`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": markdown_text,
        "share": _share,
        "count": "{:,}".format,
        "counted": counted,
    }
    page = environment.get_template("report.md.j2").render(
        run=run,
        pictures=pictures,
        total=lambda name: run.totals.get(name, 0),
        routed_share=routed_share(run.totals),
        option_mass=mean_option_mass(run.totals),
        entity_rows=_entity_rows(run),
        audit_rows=_audit_rows(run),
        verdicts=VERDICTS,
        sources=SOURCES,
        skipped={
            reason: count
            for reason, count in by_reason(run.totals, SKIPPED_COUNTER).items()
            if not reason.startswith(SKIPPED_LANGUAGE)
        },
        languages=_language_rows(run.totals),
        num_other_languages=sum(skipped_languages(run.totals).values()),
        quarantined=by_reason(run.totals, "quarantine_"),
        score_tables=[(scores.name, _score_rows(scores)) for scores in run.scores],
        quantiles=QUANTILES,
        slowest=run.units.slowest[:SLOWEST_UNITS],
        bill_rows=BILL_ROWS,
        config_yaml=yaml.safe_dump(_plain(run.config), sort_keys=False, allow_unicode=True),
    )
    return re.sub(r"\n{3,}", "\n\n", page)


@style.context("default")  # and not as a matplotlibrc of the user says
def _pictures(run: RunReport) -> dict[str, tuple[bytes, bytes]]:
    """Each as PNG and SVG."""
    figures = {
        "entities_by_source": plot_entities(run.totals, run.labels),
        "uncertainty": plot_uncertainty(run.totals, run.routing_threshold),
    }
    if run.units.stage_seconds:
        figures["seconds_by_stage"] = plot_seconds(run.units.stage_seconds)
    if run.timeline is not None:
        figures["timeline"] = plot_timeline(
            run.timeline.units, run.timeline.seconds, stages=list(run.units.stage_seconds)
        )
    for number, scores in enumerate(run.scores, start=1):
        f1 = {name: (local.f1, linked.f1) for name, local, linked in _score_rows(scores)}
        figures[f"f1_{number}"] = plot_f1(f1)
    return {name: (as_png(figure), as_svg(figure)) for name, figure in figures.items()}


def _entity_rows(run: RunReport) -> list[tuple[str, int, list[int]]]:
    """Each label, then all, with its entities and how many each source gave."""
    rows = [
        (
            label,
            run.totals.get(label_counter(label), 0),
            [run.totals.get(label_source_counter(label, source), 0) for source in SOURCES],
        )
        for label in run.labels
    ]
    by_source = [run.totals.get(source_counter(source), 0) for source in SOURCES]
    return [*rows, ("all", run.totals.get("entities", 0), by_source)]


def _audit_rows(run: RunReport) -> list[tuple[str, int, int, int]]:
    """Labels with audited candidates: how many, agreed, disagreed; then all of them."""
    counts = {
        label: [run.totals.get(audit_counter(outcome, label), 0) for outcome in AUDIT_OUTCOMES]
        for label in run.labels
    }
    rows = [
        (label, sum(found), found[0], found[1]) for label, found in counts.items() if sum(found)
    ]
    numbers = [row[1:] for row in rows]
    if not rows:
        return []
    asked, agree, disagree = (sum(row[place] for row in numbers) for place in range(3))
    return [*rows, ("all", asked, agree, disagree)]


def _score_rows(scores: ReportScores) -> list[tuple[str, Counts, Counts]]:
    """All labels together, then each, with local and linked counts."""
    local, linked = scores.local.by_label, scores.linked.by_label
    rows = [
        (label, local.get(label, Counts()), linked.get(label, Counts()))
        for label in sorted({*local, *linked})
    ]
    return [("all", scores.local.micro, scores.linked.micro), *rows]


def _scores_as_dict(scores: Scores) -> dict[str, dict[str, float]]:
    return {
        label: {
            **asdict(counts),
            "precision": counts.precision,
            "recall": counts.recall,
            "f1": counts.f1,
        }
        for label, counts in (("all", scores.micro), *scores.by_label.items())
    }


def _language_rows(totals: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Languages with the documents that were read and skipped, the most frequent first."""
    read, skipped = by_reason(totals, LANGUAGE_COUNTER), skipped_languages(totals)
    rows = [(code, read.get(code, 0), skipped.get(code, 0)) for code in {**read, **skipped}]
    return sorted(rows, key=lambda row: (-row[1] - row[2], row[0]))


def _plain(config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a JSON tree
    """A config in the types that YAML writes without tags."""
    return json.loads(json.dumps(config))


def _share(part: float, whole: float = 1.0) -> str:
    """A share as a percentage; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
