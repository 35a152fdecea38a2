"""The pictures of an evaluation."""

from collections.abc import Sequence

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from linkner_ray.evaluation.set_result import SetResult
from linkner_ray.evaluation.study import LINK, LLM, ORACLE, Study
from linkner_ray.reporting.colours import BLACK, BLUE, GREEN, GREY, SKY, VERMILION
from linkner_ray.reporting.figures import (
    as_png,
    as_svg,
    draw_f1,
    finish,
    new_figure,
    plain,
)
from linkner_ray.spanner.calibration.reliability import ReliabilityBin

Curve = Sequence[tuple[float, float]]

ESTIMATE_LINES = {
    "confidence": (SKY, ":"),
    "entropy": (SKY, "-"),
    "mc_dropout": (BLACK, "--"),
    "evidential": (BLACK, ":"),
    LINK: (BLACK, "-"),
}
"""Colour and line of an estimate that is not the run's own, which has that of its system."""

LLM_COLOUR, ORACLE_COLOUR, RANDOM_COLOUR = VERMILION, GREEN, GREY

_SHARE_TICKS = (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


@style.context("default")  # and not as a matplotlibrc of the user says
def evaluation_pictures(results: Sequence[SetResult]) -> dict[str, bytes]:
    """Every picture as PNG and SVG, by the name of its file."""
    systems = {"local": [r.local for r in results], "linked": [r.linked for r in results]}
    figures = {
        "f1": draw_f1(
            [result.name for result in results],
            {system: [one.micro.f1 for one in scores] for system, scores in systems.items()},
            {system: [one.interval for one in scores] for system, scores in systems.items()},
        )
    }
    for result in results:
        name, found = result.name, result.candidates
        figures[f"reliability-{name}"] = draw_reliability(found.bins, name=name, ece=found.ece)
        figures[f"risk-coverage-{name}"] = draw_risk_coverage(found.risk_coverage, name=name)
        figures[f"asking-{name}"] = draw_study(result.study, name=name)
        if len(result.detections) > 1:
            figures[f"estimates-{name}"] = draw_estimates(result.study, name=name)
    pictures = {}
    for name, figure in figures.items():
        pictures[f"{name}.png"] = as_png(figure)
        pictures[f"{name}.svg"] = as_svg(figure)
    return pictures


def draw_reliability(bins: Sequence[ReliabilityBin], *, name: str, ece: float) -> Figure:
    """Share of right entities against the confidence of the model, in bins of equal mass."""
    figure, axes = new_figure(5.2)
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
    return finish(figure, axes, f"Reliability on {name}: calibration error {ece:.3f}")


def draw_risk_coverage(curve: Curve, *, name: str) -> Figure:
    """Share of errors among the most confident entities, beside that of the best possible order."""
    figure, axes = new_figure(3.8)
    if curve:
        coverage, risk = zip(*curve, strict=True)
        share = risk[-1]
        # The best order has no error until only errors are left.
        best = [max(0.0, 1 - (1 - share) / place) for place in coverage]
        axes.plot(coverage, risk, color=BLUE, label="by uncertainty")
        axes.plot(coverage, best, color=ORACLE_COLOUR, linestyle="-.", label="best order")
        axes.axhline(share, color=RANDOM_COLOUR, linestyle="--", linewidth=1, label="any order")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("share of predicted entities kept, the surest first")
    axes.set_ylabel("share of wrong ones among them")
    return finish(figure, axes, f"Risk and coverage on {name}")


def draw_study(study: Study, *, name: str) -> Figure:
    """F1 against the share asked: the LLM, the oracle, and random routers of both."""
    figure, axes = new_figure(4.6)
    own = study.systems[0].estimate
    for one in study.systems:
        if one.estimate not in {own, LINK} or not one.points:
            continue
        points = sorted((point.asked_share, point.f1) for point in one.points.values())
        if one.answers == LLM:
            colour, label = (BLACK, LINK) if one.estimate == LINK else (LLM_COLOUR, "LLM")
            _line(axes, points, colour=colour, label=label, marker="o")
            if one.at_dev is not None:
                at_dev = one.at_dev
                axes.plot(at_dev.asked_share, at_dev.f1, "*", color=LLM_COLOUR, markersize=12)
        else:
            _line(axes, points, colour=ORACLE_COLOUR, label="oracle", marker="^", style="-.")
    for who, found in study.random.items():
        marker = "x" if who == LLM else "+"
        label = "any spans" if who == LLM else "any spans, oracle"
        points = sorted(found.items())
        _line(axes, points, colour=RANDOM_COLOUR, label=label, marker=marker, style="--")
    if study.llm_extraction_f1 is not None:
        axes.axhline(study.llm_extraction_f1, color="black", linestyle=":", label="LLM alone")
    _share_axes(axes)
    return finish(figure, axes, f"What asking gains on {name} (by {own})")


def draw_estimates(study: Study, *, name: str) -> Figure:
    """F1 against the share asked for each estimate: answers of the LLM, or else of the oracle."""
    figure, axes = new_figure(4.6)
    own = study.systems[0].estimate
    who = LLM if any(one.answers == LLM and one.points for one in study.systems) else ORACLE
    for one in study.systems:
        if one.answers == who and one.points:
            points = sorted((point.asked_share, point.f1) for point in one.points.values())
            colour, style = ESTIMATE_LINES[one.estimate]
            if one.estimate == own:
                colour, style = LLM_COLOUR if who == LLM else ORACLE_COLOUR, "-"
            _line(axes, points, colour=colour, label=one.estimate, marker="o", style=style)
    _share_axes(axes)
    answers = "the LLM" if who == LLM else "an oracle"
    return finish(figure, axes, f"Whom to ask on {name}: estimates, answers of {answers}")


def _line(  # noqa: PLR0913 - how a line looks
    axes: Axes, points: Curve, *, colour: str, label: str, marker: str, style: str = "-"
) -> None:
    shares, scores = zip(*points, strict=True)
    axes.plot(
        shares,
        scores,
        color=colour,
        linestyle=style,
        marker=marker,
        markersize=4,
        label=plain(label),
    )


def _share_axes(axes: Axes) -> None:
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xticks(_SHARE_TICKS, [f"{100 * tick:g} %" for tick in _SHARE_TICKS])
    axes.set_xlim(0, 1.05)
    axes.set_xlabel("share of candidates asked about")
    axes.set_ylabel("strict entity F1")
