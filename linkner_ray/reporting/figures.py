"""What all pictures have in common: size, look, and how they become bytes."""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from linkner_ray.reporting.colours import SYSTEM_COLOURS

_DPI = 144
_WIDTH = 7.0  # inches
_LEGEND_COLUMNS = 3  # more do not fit the width


def new_figure(height: float) -> tuple[Figure, Axes]:
    """A figure apart from pyplot's global state; height in inches."""
    figure, [axes] = new_strips(height, 1)
    return figure, axes


def new_strips(height: float, count: int) -> tuple[Figure, list[Axes]]:
    """A figure of axes one below the other, which share the horizontal one."""
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(count, sharex=True, squeeze=False)[:, 0])


def draw_f1(
    names: Sequence[str],
    values: Mapping[str, Sequence[float]],
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """F1 of the local model beside that of both, a pair of bars for each name.

    Args:
        names: Of the pairs, the first on top.
        values: System to its F1 for each name, in [0, 1].
        intervals: System to the bounds of each value.
    """
    figure, axes = new_figure(1.5 + 0.6 * len(names))
    for place, (system, colour) in enumerate(SYSTEM_COLOURS.items()):
        own = values[system]
        rows = [row + (place - 0.5) * 0.38 for row in range(len(names))]
        axes.barh(rows, own, 0.36, color=colour, label=system)
        bounds = [(one, one) for one in own] if intervals is None else intervals[system]
        # A value lies within its interval but for the luck of the draws.
        below = [max(0.0, one - low) for one, (low, _) in zip(own, bounds, strict=True)]
        above = [max(0.0, high - one) for one, (_, high) in zip(own, bounds, strict=True)]
        if intervals is not None:
            axes.errorbar(own, rows, xerr=(below, above), fmt="none", ecolor="black", capsize=2)
        for row, value, more in zip(rows, own, above, strict=True):
            label_bar(axes, f"{value:.3f}", value + more, row)
    label_rows(axes, names)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.set_xlabel(
        "strict entity F1" if intervals is None else "strict entity F1, with its interval of 95 %"
    )
    return finish(figure, axes, "Local model alone, and linked with the LLM")


def label_bar(axes: Axes, text: str, end: float, row: float) -> None:
    """Text behind the end of a horizontal bar."""
    axes.annotate(text, (end, row), (4, 0), textcoords="offset points", va="center")


def label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names on the vertical axis, the first on top."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)


def plain(text: str) -> str:
    """Text in which a dollar sign is one and starts no formula."""
    return text.replace("$", r"\$")


def finish(figure: Figure, axes: Axes, title: str) -> Figure:
    """Title, spines and legend as on every picture."""
    axes.set_title(plain(title), loc="left", fontweight="bold", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        columns = min(len(handles), _LEGEND_COLUMNS)
        figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    return figure


def as_png(figure: Figure) -> bytes:
    """A picture as PNG; the same bytes for the same picture."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def as_svg(figure: Figure) -> bytes:
    """A picture as SVG; the same bytes for the same picture."""
    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "linkner", "svg.fonttype": "none"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()
