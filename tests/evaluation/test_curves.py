"""Curves by hand: who is asked, what the bounds are, and that gold decides nothing but scores."""

import numpy as np
import pyarrow as pa
import pytest

from linkner_ray.config import StudyConfig
from linkner_ray.evaluation.candidates import uncertainties
from linkner_ray.evaluation.curves import (
    answered_by_gold,
    curve,
    routed_from,
    shuffled,
    thresholds_for,
    with_uncertainty,
)
from linkner_ray.evaluation.judge import Judge
from linkner_ray.evaluation.study import LINK, LLM, ORACLE, study_set
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.contract import apply_stage
from linkner_ray.stages.fuse_entities import FuseEntities
from tests.linking.made import link_of

CLASSES = ("O", "PER", "ORG")
FUSE = FuseEntities(CLASSES)


def candidate(start, uncertainty, kind="predicted"):
    return {
        "sentence": 0,
        "start": start,
        "end": start + 3,
        "label": "PER",
        "label_probs": [0.2, 0.7, 0.1],
        "uncertainty": uncertainty,
        "kind": kind,
    }


def answer(said, key):
    return {
        "verdict": "non_entity" if said == "O" else "label",
        "label": None if said == "O" else said,
        "probs": None,
        "key": key,
        "source": "llm",
        "prompt_tokens": 10,
    }


def table(rows):
    """Documents of (start, uncertainty, kind, what the LLM said or None)."""
    text = "Ada Bob Cyd Dan"
    return pa.table(
        {
            "doc_id": [str(n) for n in range(len(rows))],
            "text": [text] * len(rows),
            "candidates": pa.array(
                [[candidate(s, u, k) for s, u, k, _ in row] for row in rows],
                STAGE_COLUMNS["candidates"],
            ),
            "answers": pa.array(
                [
                    [None if said is None else answer(said, f"{said}{s}") for s, _, _, said in row]
                    for row in rows
                ],
                STAGE_COLUMNS["answers"],
            ),
        }
    )


ROWS = [
    [(0, 0.1, "predicted", "O"), (4, 0.5, "predicted", "ORG")],
    [(0, 0.3, "predicted", "PER"), (8, 0.9, "near_miss", "PER")],
]
GOLD = [[(0, 3, "PER"), (4, 7, "ORG")], [(8, 11, "PER")]]
LOCAL = [[(0, 3, "PER"), (4, 7, "PER")], [(0, 3, "PER")]]


def judge():
    return Judge(GOLD, LOCAL, samples=100)


def test_the_most_uncertain_are_asked_and_ties_together():
    values = np.array([0.1, 0.5, 0.5, 0.9])
    found = thresholds_for(values, (0.0, 0.25, 0.5, 1.0))
    assert found == {0.0: np.inf, 0.25: 0.9, 0.5: 0.5, 1.0: 0.0}
    routed = routed_from(table(ROWS), 0.5)
    assert routed["routes"].to_pylist() == [["local", "llm"], ["local", "llm"]]
    assert [[a is not None for a in row] for row in routed["answers"].to_pylist()] == [
        [False, True],
        [False, True],
    ]
    nobody = routed_from(table(ROWS), np.inf)
    assert nobody["routes"].to_pylist() == [["local", "local"]] * 2


def test_a_curve_by_hand():
    thresholds = {0.0: np.inf, 0.5: 0.5, 1.0: 0.0}
    points = curve(table(ROWS), thresholds, FUSE, judge())
    # Nobody asked: 1 of 3 right, of 3 gold.
    assert points[0.0].f1 == pytest.approx(1 / 3)
    assert points[0.0].gain.difference == 0
    assert points[0.0].num_questions == points[0.0].prompt_tokens == 0
    assert points[0.0].gain_per_1000 is None
    # Half: Bob becomes ORG, Cyd enters; right are 3 of 4 predicted.
    assert (points[0.5].precision, points[0.5].recall) == (3 / 4, 1)
    assert (points[0.5].num_asked, points[0.5].num_questions) == (2, 2)
    assert points[0.5].prompt_tokens == 20
    gained = points[0.5].f1 - points[0.0].f1
    assert points[0.5].gain.difference == pytest.approx(gained)
    assert points[0.5].gain_per_1000 == pytest.approx(100 * gained * 500)
    # All: the LLM drops the right Ada of the first sentence.
    assert points[1.0].asked_share == 1
    assert points[1.0].recall == pytest.approx(2 / 3)


def test_a_curve_is_that_of_whole_fusions():
    rng = np.random.default_rng(0)
    kinds, said = ("predicted", "near_miss"), ("PER", "ORG", "O")
    rows = [
        [
            (int(start), float(rng.random()), str(rng.choice(kinds)), str(rng.choice(said)))
            for start in np.sort(rng.choice(12, size=rng.integers(5), replace=False))
        ]
        for _ in range(60)
    ]
    gold = [[(start, start + 3, "PER") for start, *_ in row[::2]] for row in rows]
    answered = table(rows)
    judge = Judge(gold, gold, samples=100)
    thresholds = {"few": 0.9, "all": 0.0, "dev": 0.6, "none": np.inf, "half": 0.5, "again": 0.6}
    points = curve(answered, thresholds, FUSE, judge)
    assert points.keys() == thresholds.keys()
    for name, threshold in thresholds.items():
        assert points[name] == judge.point(apply_stage(FUSE, routed_from(answered, threshold)))
    assert len({point.f1 for point in points.values()}) > 3


def test_what_nobody_answered_is_left_out():
    rows = [[(0, 0.1, "predicted", None), (4, 0.5, "predicted", "ORG")], ROWS[1]]
    thresholds = {0.5: 0.5, 0.75: 0.3, 1.0: 0.0}
    points = curve(table(rows), thresholds, FUSE, judge())
    assert list(points) == [0.5, 0.75]


def test_the_oracle_makes_right_what_a_candidate_reaches():
    oracle = answered_by_gold(table(ROWS), GOLD)
    points = curve(oracle, {1.0: 0.0}, FUSE, judge())
    assert points[1.0].f1 == 1
    assert points[1.0].num_questions == 4


def test_a_router_of_any_spans_keeps_candidates_and_answers():
    dealt = shuffled(table(ROWS), seed=0)
    assert sorted(uncertainties(dealt)) == sorted(uncertainties(table(ROWS)))
    assert uncertainties(dealt).tolist() != uncertainties(table(ROWS)).tolist()
    back = with_uncertainty(dealt, uncertainties(table(ROWS)))
    assert back.equals(table(ROWS))


def test_a_slice_of_a_table_keeps_its_own_candidates():
    part = table(ROWS).slice(1)
    moved = with_uncertainty(part, np.array([0.25, 0.75]))
    assert uncertainties(moved).tolist() == [0.25, 0.75]
    routed = routed_from(moved, 0.5)
    assert [a and a["key"] for a in routed["answers"].to_pylist()[0]] == [None, "PER8"]


def study(rows, gold=GOLD, link=None, **settings):
    return study_set(
        table(rows),
        gold,
        estimates={
            "confidence": uncertainties(table(rows)),
            "entropy": np.array([0.9, 0.1, 0.2, 0.3]),
        },
        dev_thresholds={"confidence": 0.5},
        config=StudyConfig(shares=(0.0, 0.25, 1.0), resamples=100, random_routers=2, **settings),
        classes=CLASSES,
        link=link,
        judge=judge(),
    )


def test_every_estimate_and_bound():
    found = study(ROWS)
    by_name = {(one.answers, one.estimate): one for one in found.systems}
    assert list(by_name) == [
        (who, estimate) for estimate in ("confidence", "entropy") for who in (LLM, ORACLE)
    ]
    for one in found.systems:
        assert list(one.points) == [0.0, 0.25, 1.0]
        assert one.points[0.0].f1 == pytest.approx(1 / 3)
    ours = by_name[LLM, "confidence"]
    assert ours.at_dev.num_asked == 2
    assert by_name[LLM, "entropy"].at_dev is None
    # Entropy asks first about Ada, whom the LLM drops; confidence about Cyd, whom it finds.
    assert ours.points[0.25].f1 > by_name[LLM, "entropy"].points[0.25].f1
    assert found.llm_alone_f1 == ours.points[1.0].f1
    assert by_name[ORACLE, "entropy"].points[1.0].f1 == 1
    assert found.random.keys() == {LLM, ORACLE}
    for who in (LLM, ORACLE):
        assert found.random[who][0.0] == pytest.approx(1 / 3)
        assert found.random[who][1.0] == by_name[who, "confidence"].points[1.0].f1


def test_without_answers_only_the_oracle_speaks():
    silent = [[(*one[:3], None) for one in row] for row in ROWS]
    found = study(silent)
    assert {one.answers for one in found.systems} == {ORACLE}
    assert found.random.keys() == {ORACLE}
    assert found.llm_alone_f1 is None


def test_a_link_is_a_system_that_asks_by_expected_gain():
    found = study(ROWS, link=link_of(CLASSES))
    linked = found.systems[-1]
    assert (linked.answers, linked.estimate, linked.name) == (LLM, LINK, "link")
    assert linked.points[0.0].f1 == pytest.approx(1 / 3)
    # The near miss first; the predicted ones are alike, and so they are asked about together.
    assert [point.num_asked for point in linked.points.values()] == [0, 1, 4]
    assert linked.points[0.25].f1 == pytest.approx(4 / 7)
    assert linked.points[1.0].f1 == found.llm_alone_f1
