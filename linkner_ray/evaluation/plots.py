"""The pictures of a report, as PNG bytes.

Colours are those of Okabe and Ito, told apart with any colour vision; a source, a kind and a model
have the same colour wherever they appear.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from linkner_ray.runs.accounts import (
    KINDS,
    SOURCES,
    UNCERTAINTY_BINS,
    label_source_counter,
    uncertainty_counter,
)
from linkner_ray.spanner.reliability import ReliabilityBin

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, GREY = "#56B4E9", "#CC79A7", "#F0E442", "#999999"

SOURCE_COLOURS = {"local": BLUE, "llm": ORANGE}
KIND_COLOURS = {"predicted": SKY, "doubted": PURPLE}
SYSTEM_COLOURS = {"local": BLUE, "linked": VERMILION}

_DPI = 144
_WIDTH = 7.0  # inches
_LEGEND_COLUMNS = 3  # more do not fit the width


def plot_entities(totals: Mapping[str, int], labels: Sequence[str]) -> bytes:
    """Entities of each label, stacked by who decided."""
    figure, axes = _figure(1.5 + 0.38 * len(labels))
    rows = range(len(labels))
    left = [0] * len(labels)
    for source in SOURCES:
        counts = [totals.get(label_source_counter(label, source), 0) for label in labels]
        if any(counts):
            axes.barh(rows, counts, left=left, color=SOURCE_COLOURS[source], label=source)
        left = [before + count for before, count in zip(left, counts, strict=True)]
    for row, total in zip(rows, left, strict=True):
        axes.annotate(f"{total:,}", (total, row), (4, 0), textcoords="offset points", va="center")
    _label_rows(axes, labels)
    axes.set_xlim(0, max([*left, 1]) * 1.12)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("entities")
    return _png(figure, axes, "Entities by label, and who decided")


def plot_uncertainty(totals: Mapping[str, int], threshold: float) -> bytes:
    """Histogram of the candidates' uncertainty, with the threshold of routing.

    Args:
        totals: Counters of a run.
        threshold: Uncertainty from which a predicted candidate is asked about, in [0, 1].
    """
    figure, axes = _figure(3.2)
    bar = 1 / UNCERTAINTY_BINS / len(KINDS)
    for place, kind in enumerate(KINDS):
        counts = [totals.get(uncertainty_counter(kind, i), 0) for i in range(UNCERTAINTY_BINS)]
        left = [i / UNCERTAINTY_BINS + place * bar for i in range(UNCERTAINTY_BINS)]
        label = f"{kind} ({sum(counts):,})"
        axes.bar(left, counts, bar * 0.92, align="edge", color=KIND_COLOURS[kind], label=label)
    axes.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:g}")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(bottom=0)
    axes.set_yscale("symlog", linthresh=1)  # one candidate is still seen beside 10^5
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("uncertainty of the local model")
    axes.set_ylabel("candidates (log scale)")
    return _png(figure, axes, "How sure the local model was")


def plot_seconds(seconds: Mapping[str, float]) -> bytes:
    """Seconds spent in each stage, summed over units, in the order given."""
    figure, axes = _figure(1.3 + 0.38 * len(seconds))
    rows, values = range(len(seconds)), list(seconds.values())
    axes.barh(rows, values, color=GREY)
    for row, value in zip(rows, values, strict=True):
        axes.annotate(
            f"{value:,.1f}", (value, row), (4, 0), textcoords="offset points", va="center"
        )
    _label_rows(axes, list(seconds))
    axes.set_xlim(0, max([*values, 0.1]) * 1.12)
    axes.set_xlabel("seconds, summed over units")
    return _png(figure, axes, "Where the time went")


def plot_f1(f1: Mapping[str, tuple[float, float]]) -> bytes:
    """F1 of the local model beside that of the linked two, for each label.

    Args:
        f1: Label or "all" to local and linked F1, both in [0, 1].
    """
    figure, axes = _figure(1.5 + 0.55 * len(f1))
    for place, system in enumerate(SYSTEM_COLOURS):
        values = [pair[place] for pair in f1.values()]
        rows = [row + (place - 0.5) * 0.38 for row in range(len(f1))]
        axes.barh(rows, values, 0.36, color=SYSTEM_COLOURS[system], label=system)
        for row, value in zip(rows, values, strict=True):
            axes.annotate(
                f"{value:.3f}", (value, row), (4, 0), textcoords="offset points", va="center"
            )
    _label_rows(axes, list(f1))
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.set_xlabel("strict entity F1")
    return _png(figure, axes, "Local model alone, and linked with the LLM")


def plot_reliability(bins: Sequence[ReliabilityBin], *, name: str, ece: float) -> bytes:
    """Share of right entities against what the model believed, in bins of equal mass.

    Args:
        bins: Of predicted entities.
        name: Of the set, for the title.
        ece: Expected calibration error of the same bins, in [0, 1].
    """
    figure, axes = _figure(5.2)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="believed = right")
    confidence = [one.confidence for one in bins]
    accuracy = [one.accuracy for one in bins]
    counts = f"{bins[0].size:,} entities a point" if bins else "no entities"
    axes.plot(confidence, accuracy, color=BLUE, marker="o", label=counts)
    low = min([*confidence, *accuracy, 0.95])
    axes.set_xlim(max(0.0, low - 0.05), 1.005)
    axes.set_ylim(max(0.0, low - 0.05), 1.005)
    axes.set_aspect("equal")
    axes.set_xlabel("confidence of the local model")
    axes.set_ylabel("share with the right boundaries and label")
    return _png(figure, axes, f"Reliability on {name}: calibration error {ece:.3f}")


def plot_gains(curves: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """F1 of several systems against the share of candidates they ask an LLM about.

    Args:
        curves: System to points of asked share and F1, both in [0, 1].
    """
    figure, axes = _figure(4.6)
    colours = (VERMILION, BLUE, GREEN, ORANGE, PURPLE, GREY)
    for (name, points), colour, marker in zip(curves.items(), cycle(colours), cycle("osD^vx")):
        shares, scores = zip(*sorted(points), strict=True)
        axes.plot(shares, scores, color=colour, marker=marker, markersize=4, label=name)
    axes.set_xscale("symlog", linthresh=0.01)
    ticks = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.set_xlim(0, 1.05)
    axes.set_xlabel("share of candidates asked about")
    axes.set_ylabel("strict entity F1")
    return _png(figure, axes, "What asking gains")


def _figure(height: float) -> tuple[Figure, Axes]:
    """A figure apart from pyplot's global state; height in inches."""
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names on the vertical axis, the first on top; a dollar sign is one and starts no formula."""
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)


def _png(figure: Figure, axes: Axes, title: str) -> bytes:
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        columns = min(len(handles), _LEGEND_COLUMNS)
        figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


STAGE_COLOURS = {
    "RecognizeSpans": SOURCE_COLOURS["local"],
    "RecognizeWhenNeeded": SOURCE_COLOURS["local"],
    "ClassifySpans": SOURCE_COLOURS["llm"],
}
"""Stages with a model have the colour of its entities; the others are grey."""


def plot_timeline(
    units: Mapping[str, Sequence[float]], seconds: float, *, stages: Sequence[str]
) -> bytes:
    """Units at work in each stage over the time of a run, one strip a stage.

    Args:
        units: Stage to the mean number of units at work, in bins of equal width.
        seconds: Length of all bins together.
        stages: The stages to show, from top to bottom.
    """
    figure = Figure(figsize=(_WIDTH, 1.1 + 0.62 * len(stages)), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    unit, length = _time_unit(seconds)
    strips = figure.subplots(len(stages), sharex=True, squeeze=False)[:, 0]
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
    return _png(figure, strips[0], "Units at work in each stage, with the most at a time")


def _time_unit(seconds: float) -> tuple[str, float]:
    """The unit a length of time is best read in, and the length in it."""
    if seconds < 300:
        return "seconds", seconds
    return ("minutes", seconds / 60) if seconds < 3 * 3600 else ("hours", seconds / 3600)
