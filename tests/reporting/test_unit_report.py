"""What units took: sums over all, names of the slowest, and a size that does not grow."""

import json
from dataclasses import asdict

import pytest

from linkner_ray.reporting.unit_report import KEPT_UNITS, UnitReport, report_units


def unit(number, **seconds):
    return UnitReport(name=f"u-{number}", source="a", documents=1, characters=10, seconds=seconds)


def test_only_the_slowest_are_named_and_all_are_summed():
    # 0 to 999 s, in an order that is not theirs
    units = [unit(n, ReadDocuments=0.5, RecognizeSpans=n - 0.5) for n in range(999, 0, -1)]
    found = report_units([*units[::2], *units[1::2]])
    assert [one.name for one in found.slowest] == [f"u-{999 - n}" for n in range(KEPT_UNITS)]
    assert found.stage_seconds == {"ReadDocuments": 499.5, "RecognizeSpans": 999 * 500 - 499.5}
    assert (found.count, found.timed, found.timed_characters) == (999, 999, 9990)
    assert found.quantiles["all"] == pytest.approx(
        {"p50": 500, "p90": 899.2, "p99": 989.02, "max": 999}
    )
    assert found.quantiles["ReadDocuments"]["p99"] == 0.5


def test_units_of_an_earlier_run_are_counted_and_not_timed():
    found = report_units([unit(1), unit(2, ReadDocuments=2.0), unit(3)])
    assert (found.count, found.timed, found.timed_characters) == (3, 1, 10)
    assert [one.name for one in found.slowest] == ["u-2"]


def test_of_equally_slow_units_the_earlier_comes_first():
    found = report_units([unit(n, ReadDocuments=1.0) for n in range(150)])
    assert [one.name for one in found.slowest] == [f"u-{n}" for n in range(100)]


def test_no_units_are_reported_too():
    found = report_units([])
    assert (found.count, found.quantiles, found.slowest) == (0, {}, [])


def test_a_report_of_many_units_is_as_long_as_one_of_a_hundred():
    def length(count):
        units = (unit(n % 10, ReadDocuments=1.0) for n in range(count))
        return len(json.dumps(asdict(report_units(units))))

    assert length(20_000) - length(100) < 50
