"""The pictures of a run's report."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from linkner_ray.reporting.colours import GREY, KIND_COLOURS, SOURCE_COLOURS
from linkner_ray.reporting.figures import (
    draw_f1,
    finish,
    label_bar,
    label_rows,
    new_figure,
    new_strips,
)
from linkner_ray.runs.counters import (
    KINDS,
    SOURCES,
    UNCERTAINTY_BINS,
    label_source_counter,
    uncertainty_counter,
)


def plot_entities(totals: Mapping[str, int], labels: Sequence[str]) -> Figure:
    """Entities of each label, stacked by source."""
    figure, axes = new_figure(1.5 + 0.38 * len(labels))
    rows = range(len(labels))
    left = [0] * len(labels)
    for source in SOURCES:
        counts = [totals.get(label_source_counter(label, source), 0) for label in labels]
        if any(counts):
            axes.barh(rows, counts, left=left, color=SOURCE_COLOURS[source], label=source)
        left = [before + count for before, count in zip(left, counts, strict=True)]
    for row, total in zip(rows, left, strict=True):
        label_bar(axes, f"{total:,}", total, row)
    label_rows(axes, labels)
    axes.set_xlim(0, max([*left, 1]) * 1.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("entities")
    return finish(figure, axes, "Entities by label, and who decided")


def plot_uncertainty(totals: Mapping[str, int], threshold: float | None) -> Figure:
    """Histogram of the candidates' uncertainty, and the threshold of asking, if that goes by it."""
    figure, axes = new_figure(3.2)
    bar = 1 / UNCERTAINTY_BINS / len(KINDS)
    for place, kind in enumerate(KINDS):
        counts = [totals.get(uncertainty_counter(kind, i), 0) for i in range(UNCERTAINTY_BINS)]
        left = [i / UNCERTAINTY_BINS + place * bar for i in range(UNCERTAINTY_BINS)]
        label = f"{kind} ({sum(counts):,})"
        axes.bar(left, counts, bar * 0.92, align="edge", color=KIND_COLOURS[kind], label=label)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:g}")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(bottom=0)
    axes.set_yscale("symlog", linthresh=1)  # one candidate is still seen beside 10^5
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("uncertainty of the local model")
    axes.set_ylabel("candidates (log scale)")
    return finish(figure, axes, "How sure the local model was")


def plot_seconds(seconds: Mapping[str, float]) -> Figure:
    """Seconds spent in each stage, summed over units, in the order given."""
    figure, axes = new_figure(1.3 + 0.38 * len(seconds))
    rows, values = range(len(seconds)), list(seconds.values())
    axes.barh(rows, values, color=GREY)
    for row, value in zip(rows, values, strict=True):
        label_bar(axes, f"{value:,.1f}", value, row)
    label_rows(axes, list(seconds))
    axes.set_xlim(0, max([*values, 0.1]) * 1.12)
    axes.set_xlabel("seconds, summed over units")
    return finish(figure, axes, "Where the time went")


def plot_f1(f1: Mapping[str, tuple[float, float]]) -> Figure:
    """F1 of the local model beside that of the linked two, in [0, 1], for each label and "all"."""
    local, linked = ([pair[place] for pair in f1.values()] for place in (0, 1))
    return draw_f1(list(f1), {"local": local, "linked": linked})


STAGE_COLOURS = {
    "RecognizeSpans": SOURCE_COLOURS["local"],
    "RecognizeWhenNeeded": SOURCE_COLOURS["local"],
    "ClassifySpans": SOURCE_COLOURS["llm"],
}
"""Stages with a model have the colour of its entities; the others are grey."""


def plot_timeline(
    units: Mapping[str, Sequence[float]], seconds: float, *, stages: Sequence[str]
) -> Figure:
    """Units at work in each stage over the time of a run, one strip a stage.

    Args:
        units: Stage to the mean number of units at work, in bins of equal width.
        seconds: Length of all bins together.
        stages: The stages to show, from top to bottom.
    """
    figure, strips = new_strips(1.1 + 0.62 * len(stages), len(stages))
    unit, length = _time_unit(seconds)
    for axes, stage in zip(strips, stages, strict=True):
        values = units.get(stage, ())
        edges = [length * place / max(len(values), 1) for place in range(len(values) + 1)]
        highest = max(values, default=0.0)
        if values:
            axes.stairs(values, edges, fill=True, color=STAGE_COLOURS.get(stage, GREY))
        axes.set_ylim(0, max(highest, 1e-9) * 1.1)
        axes.set_yticks([highest] if highest else [], [f"{highest:.2g}"] if highest else [])
        axes.set_ylabel(stage, rotation=0, ha="right", va="center")
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels(strips)
    strips[-1].set_xlim(0, length or 1.0)
    strips[-1].set_xlabel(f"{unit} since the first unit was begun")
    title = "Units at work in each stage, with the most at a time"
    return finish(figure, strips[0], title)


def _time_unit(seconds: float) -> tuple[str, float]:
    """The unit a length of time is best read in, and the length in it."""
    if seconds < 300:
        return "seconds", seconds
    return ("minutes", seconds / 60) if seconds < 3 * 3600 else ("hours", seconds / 3600)
