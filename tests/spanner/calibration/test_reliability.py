import numpy as np
import pytest

from linkner_ray.spanner.calibration import reliability
from linkner_ray.spanner.calibration.reliability import (
    brier_score,
    error_auroc,
    expected_calibration_error,
    reliability_bins,
)

CONFIDENCE = np.array([0.9, 0.6, 0.9, 0.6])
CORRECT = np.array([True, True, True, False])


def set_bins(monkeypatch, count):
    monkeypatch.setattr(reliability, "NUM_BINS", count)


def test_calibration_error_of_known_bins(monkeypatch):
    set_bins(monkeypatch, 2)
    # bins of two: |0.6 - 0.5| and |0.9 - 1.0|, mean 0.1
    assert expected_calibration_error(CONFIDENCE, CORRECT) == pytest.approx(0.1)
    # one bin: |0.75 - 0.75|
    set_bins(monkeypatch, 1)
    assert expected_calibration_error(CONFIDENCE, CORRECT) == pytest.approx(0.0)


def test_bins_are_of_equal_mass_and_ordered(monkeypatch):
    set_bins(monkeypatch, 2)
    bins = reliability_bins(CONFIDENCE, CORRECT)
    assert [one.size for one in bins] == [2, 2]
    assert [one.confidence for one in bins] == pytest.approx([0.6, 0.9])
    assert [one.accuracy for one in bins] == pytest.approx([0.5, 1.0])


def test_bins_that_cannot_be_equal_differ_by_one(monkeypatch):
    set_bins(monkeypatch, 3)
    bins = reliability_bins(np.linspace(0, 1, 7), np.ones(7, dtype=bool))
    assert [one.size for one in bins] == [3, 2, 2]


def test_brier_score_by_hand():
    # (0.1^2 + 0.4^2 + 0.1^2 + 0.6^2) / 4 = 0.54 / 4
    assert brier_score(CONFIDENCE, CORRECT) == pytest.approx(0.135)


def test_auroc_counts_pairs_and_halves_ties():
    # The one error has uncertainty 0.4; the right ones 0.1, 0.4, 0.1: two wins and a tie of three.
    assert error_auroc(1 - CONFIDENCE, CORRECT) == pytest.approx(2.5 / 3)


def test_no_errors_leave_nothing_to_detect():
    assert error_auroc(CONFIDENCE, np.ones(4, dtype=bool)) is None
    assert error_auroc(np.zeros(0), np.zeros(0, dtype=bool)) is None


def test_no_entities_have_no_error():
    nothing = np.zeros(0), np.zeros(0, dtype=bool)
    assert (expected_calibration_error(*nothing), brier_score(*nothing)) == (0.0, 0.0)
