"""Thresholds by hand, what a file keeps of them, and how a config names one."""

import numpy as np
import pytest

from linkner_ray.config import RecognizeConfig, RoutingConfig
from linkner_ray.errors import ConfigError, DataError, StartupError
from linkner_ray.spanner.calibration.named_threshold import resolved_routing
from linkner_ray.spanner.calibration.thresholds import (
    ASKED_PERCENT,
    THRESHOLDS,
    Thresholds,
    choose_thresholds,
    risk_threshold,
)


def chosen():
    rng = np.random.default_rng(0)
    uncertainty = rng.random(400).astype(np.float32).astype(np.float64)
    predicted = np.arange(400) % 4 != 0
    correct = rng.random(400) > uncertainty * 0.3
    return uncertainty, predicted, correct & predicted


def test_a_share_of_all_candidates_is_asked():
    uncertainty, predicted, correct = chosen()
    found = choose_thresholds({"confidence": uncertainty}, predicted, correct)
    asked = found.estimates["confidence"].asked
    assert tuple(asked) == ASKED_PERCENT
    for percent, threshold in asked.items():
        share = (uncertainty.astype(np.float32) >= np.float32(threshold)).mean()
        assert share == pytest.approx(percent / 100, abs=1 / 400)
    assert (asked[0], asked[100]) == (1.0, 0.0)
    # Gold has no say in them.
    other = choose_thresholds({"confidence": uncertainty}, predicted, predicted & ~correct)
    assert other.estimates["confidence"].asked == asked
    assert other.estimates["confidence"].risk != found.estimates["confidence"].risk


def test_no_more_than_the_risk_stays_local():
    uncertainty = np.array([0.1, 0.2, 0.2, 0.3, 0.4])
    correct = np.array([True, True, False, True, False])
    # Below 0.2: 0 of 1 wrong; below 0.3: 1 of 3; below 0.4: 1 of 4; all: 2 of 5.
    assert risk_threshold(uncertainty, correct, 0.0) == 0.2
    assert risk_threshold(uncertainty, correct, 0.3) == 0.4
    assert risk_threshold(uncertainty, correct, 0.4) == 1.0
    assert risk_threshold(uncertainty, ~correct, 0.1) is None


def test_too_small_a_set_is_refused():
    uncertainty, predicted, correct = (values[:120] for values in chosen())
    with pytest.raises(DataError, match="at least 100 predicted entities, the set has 90"):
        choose_thresholds({"confidence": uncertainty}, predicted, correct)


def test_a_file_keeps_all_of_it(tmp_path):
    uncertainty, predicted, correct = chosen()
    found = choose_thresholds(
        {"confidence": uncertainty, "entropy": uncertainty / 2}, predicted, correct
    )
    found.write(tmp_path)
    assert Thresholds.read(tmp_path) == found
    (tmp_path / THRESHOLDS).write_text("{")
    with pytest.raises(StartupError, match="is damaged"):
        Thresholds.read(tmp_path)
    (tmp_path / THRESHOLDS).write_text('{"num_candidates": 1}')
    with pytest.raises(StartupError, match="linkner calibrate"):
        Thresholds.read(tmp_path)
    (tmp_path / THRESHOLDS).unlink()
    assert Thresholds.read(tmp_path) is None


def test_a_config_names_one(tmp_path):
    uncertainty, predicted, correct = chosen()
    found = choose_thresholds({"confidence": uncertainty}, predicted, correct)
    recognize = RecognizeConfig(checkpoint=str(tmp_path))
    with pytest.raises(ConfigError, match=f"has no {THRESHOLDS}"):
        resolved_routing(RoutingConfig(threshold_for="asked=5%"), recognize)
    found.write(tmp_path)
    named = resolved_routing(RoutingConfig(threshold_for="asked=5%", audit_share=0.1), recognize)
    assert named.threshold == found.estimates["confidence"].asked[5]
    assert (named.threshold_for, named.audit_share) == (None, 0.1)
    risk = resolved_routing(RoutingConfig(threshold_for="risk=5%"), recognize)
    assert risk.threshold == found.estimates["confidence"].risk[5]
    with pytest.raises(ConfigError, match=r"no such threshold .* choose one of asked=0%, asked=1%"):
        resolved_routing(RoutingConfig(threshold_for="asked=7%"), recognize)
    other = recognize.model_copy(update={"uncertainty": "entropy"})
    with pytest.raises(ConfigError, match="only for confidence"):
        resolved_routing(RoutingConfig(threshold_for="asked=5%"), other)
    assert resolved_routing(RoutingConfig(threshold_for="asked=0%"), recognize).threshold == 1.0
    untouched = RoutingConfig(threshold=0.7)
    assert resolved_routing(untouched, recognize) is untouched


def test_thresholds_of_dropout_are_for_the_dropout_they_were_chosen_with(tmp_path):
    uncertainty, predicted, correct = chosen()
    found = choose_thresholds({"mc_dropout": uncertainty}, predicted, correct)
    found.write(tmp_path)
    recognize = RecognizeConfig(checkpoint=str(tmp_path), uncertainty="mc_dropout")
    routing = RoutingConfig(threshold_for="asked=5%")
    assert resolved_routing(routing, recognize).threshold == found.estimates["mc_dropout"].asked[5]
    other = recognize.model_copy(update={"dropout_scope": "encoder"})
    with pytest.raises(ConfigError, match=r"chosen with dropout_scope = head, but .* = encoder"):
        resolved_routing(routing, other)


@pytest.mark.parametrize("name", ["asked=5", "risk", "asked=x%", "guaranteed", ""])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="names no threshold"):
        RoutingConfig(threshold_for=name)


def test_a_number_and_a_name_are_refused_together():
    with pytest.raises(ValueError, match="both say who is asked"):
        RoutingConfig(threshold=0.1, threshold_for="asked=5%")
