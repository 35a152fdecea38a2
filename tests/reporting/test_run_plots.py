"""Pictures: real PNGs and SVGs, equal for equal input; what they show is looked at by eye."""

import struct

import pytest

from linkner_ray.evaluation.plots import draw_reliability
from linkner_ray.reporting.colours import KIND_COLOURS, SOURCE_COLOURS, SYSTEM_COLOURS
from linkner_ray.reporting.figures import as_png, as_svg
from linkner_ray.reporting.run_plots import (
    plot_entities,
    plot_f1,
    plot_seconds,
    plot_timeline,
    plot_uncertainty,
)
from linkner_ray.runs.counters import KINDS, SOURCES
from linkner_ray.spanner.calibration.reliability import ReliabilityBin

TOTALS = {
    "source_local_PER": 30,
    "source_llm_PER": 5,
    "source_llm_ORG": 2,
    "uncertainty_predicted_bin_00": 100_000,
    "uncertainty_near_miss_bin_19": 1,
}


def size(png):
    """Width and height in pixels, from the header chunk that follows the 8 bytes of signature."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_entities(TOTALS, ["PER", "ORG", "US$"]),
        lambda: plot_entities({}, ["PER"]),
        lambda: plot_uncertainty(TOTALS, 0.1),
        lambda: plot_uncertainty({}, 0.0),
        lambda: plot_seconds({"RecognizeSpans": 1.5, "RouteSpans": 0.0}),
        lambda: plot_f1({"all": (0.5, 1.0), "PER": (0.0, 0.25)}),
        lambda: plot_timeline({"A": [0, 1.5], "B": [0, 0]}, 900, stages=["A", "B", "C"]),
        lambda: plot_timeline({"A": [0.0]}, 0.0, stages=["A"]),
    ],
    ids=[
        "entities",
        "no_entities",
        "uncertainty",
        "no_candidates",
        "seconds",
        "f1",
        "timeline",
        "no_time",
    ],
)
def test_a_picture_is_a_png_of_page_width_and_always_the_same(draw):
    first = as_png(draw())
    width, height = size(first)
    assert width == 7 * 144
    assert 150 < height < 1000
    assert as_png(draw()) == first
    assert as_svg(draw()) == as_svg(draw())


def test_a_label_more_makes_the_picture_higher():
    few, many = (as_png(plot_entities(TOTALS, [str(n) for n in range(count)])) for count in (2, 12))
    assert size(many)[1] > size(few)[1]


def test_every_source_kind_and_system_has_a_colour_of_its_own():
    assert tuple(SOURCE_COLOURS) == SOURCES
    assert tuple(KIND_COLOURS) == KINDS
    for colours in (SOURCE_COLOURS, KIND_COLOURS, SYSTEM_COLOURS):
        assert len(set(colours.values())) == len(colours)
    assert SOURCE_COLOURS["local"] == SYSTEM_COLOURS["local"]


def test_a_reliability_diagram_is_a_picture():
    bins = [ReliabilityBin(3, 0.6, 0.5), ReliabilityBin(3, 0.9, 1.0)]
    assert as_png(draw_reliability(bins, name="dev", ece=0.1)).startswith(b"\x89PNG")
    assert as_png(draw_reliability([], name="nothing", ece=0.0)).startswith(b"\x89PNG")
