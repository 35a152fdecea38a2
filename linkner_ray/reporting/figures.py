"""What all pictures have in common: size, colours, and how they become bytes.

Colours are those of Okabe and Ito, told apart with any colour vision; a source, a kind and a system
have the same colour wherever they appear.
"""

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, GREY = "#56B4E9", "#CC79A7", "#F0E442", "#999999"
BLACK = "#000000"

SOURCE_COLOURS = {"local": BLUE, "llm": ORANGE}
KIND_COLOURS = {"predicted": SKY, "near_miss": PURPLE}
SYSTEM_COLOURS = {"local": BLUE, "linked": VERMILION}

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
