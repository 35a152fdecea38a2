import pyarrow as pa
import pytest

from linkner_ray.evaluation.candidates import judge_candidates, predicted_uncertainty
from linkner_ray.schemas import STAGE_COLUMNS


def candidate(start, end, label, probability, kind="predicted"):
    return {
        "sentence": 0,
        "start": start,
        "end": end,
        "label": label,
        "label_probs": [1 - probability, probability],
        "uncertainty": 1 - probability,
        "kind": kind,
    }


def column(*rows):
    return pa.chunked_array([pa.array(list(rows), type=STAGE_COLUMNS["candidates"])])


GOLD = [[(0, 4, "PER"), (9, 12, "LOC")], [(0, 3, "PER")], []]


def test_reach_calibration_and_detection_by_hand():
    found = judge_candidates(
        column(
            [candidate(0, 4, "PER", 0.9), candidate(9, 12, "LOC", 0.2, "near_miss")],
            [candidate(0, 3, "LOC", 0.6), candidate(5, 7, "LOC", 0.1, "near_miss")],
            [],
        ),
        GOLD,
    )
    assert (found.num_predicted, found.num_near_misses, found.extra_share) == (2, 2, 1.0)
    # All three golds have a candidate of their boundaries; the predicted ones reach two.
    assert found.candidate_recall == 1.0
    assert found.candidate_recall_predicted == pytest.approx(2 / 3)
    # right 0.9, wrong (label) 0.6: gaps 0.1 and 0.6 in bins of one; squares 0.01 and 0.36
    assert found.ece == pytest.approx(0.35)
    assert found.brier == pytest.approx(0.185)
    assert found.detection.auroc == 1.0


def test_a_gold_entity_is_reached_by_its_boundaries_and_once():
    other = judge_candidates(column([candidate(0, 3, "PER", 0.9)], [], []), GOLD)
    assert (other.candidate_recall, other.detection.auroc) == (0.0, None)
    twice = [candidate(0, 4, "PER", 0.9), candidate(0, 4, "LOC", 0.3, "near_miss")]
    assert judge_candidates(column(twice, [], []), GOLD).candidate_recall == pytest.approx(1 / 3)


def test_no_candidates_and_no_gold():
    found = judge_candidates(column([]), [[]])
    assert (found.candidate_recall, found.ece, found.brier, found.extra_share, found.bins) == (
        0,
        0,
        0,
        0,
        (),
    )


def test_uncertainties_of_predicted_candidates_are_in_the_order_of_the_documents():
    rows = column(
        [candidate(0, 4, "PER", 0.75), candidate(9, 12, "LOC", 0.25, "near_miss")],
        [],
        [candidate(0, 3, "LOC", 0.5)],
    )
    assert predicted_uncertainty(rows).tolist() == [0.25, 0.5]
    assert predicted_uncertainty(column([])).shape == (0,)
