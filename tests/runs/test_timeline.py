"""When units were in which stage, against sums done by hand and by brute force."""

import random
from itertools import pairwise

import numpy as np
import pytest

from linkner_ray.runs import timeline
from linkner_ray.runs.folder import UnitResult
from linkner_ray.runs.timeline import measure_timeline


def unit_result(number, **stages):
    """A unit whose stages are `(began, seconds, worker)`."""
    parts = {
        name: {stage: times[place] for stage, times in stages.items()}
        for place, name in enumerate(("began", "seconds", "workers"))
    }
    return UnitResult(
        unit=f"u-{number}", source="a", first_record=0, num_records=1, is_last=True, counts={},
        **parts,
    )  # fmt: skip


UNITS = [
    unit_result(1, RecognizeSpans=(100, 4, 1), RouteSpans=(104, 1, 1), ClassifySpans=(105, 5, 9)),
    unit_result(2, RecognizeSpans=(100, 2, 2), RouteSpans=(102, 1, 2), ClassifySpans=(106, 2, 9)),
    unit_result(3, RecognizeSpans=(105, 1, 1), ClassifySpans=(108, 2, 9)),
]


def test_units_at_work_are_means_over_the_bins(monkeypatch):
    monkeypatch.setattr(timeline, "NUM_BINS", 5)
    found = measure_timeline(UNITS, {})  # 100 to 110, bins of 2 s
    assert (found.began, found.seconds) == (100, 10)
    # 100-102 both, 102-104 the first, then 105-106 the third: half a bin
    assert found.units["RecognizeSpans"] == pytest.approx([2, 1, 0.5, 0, 0])
    # 105-110, 106-108 and 108-110
    assert found.units["ClassifySpans"] == pytest.approx([0, 0, 0.5, 2, 2])


def test_an_actor_with_several_units_at_once_is_busy_once():
    found = measure_timeline(UNITS, {"encoder": 2, "llm": 1}).pools
    # actor 1: 100 to 106; actor 2: 100 to 103
    assert (found["encoder"].actors, found["encoder"].busy_s) == (2, pytest.approx(9))
    assert found["encoder"].share == pytest.approx(9 / 20)
    assert (found["llm"].actors, found["llm"].busy_s) == (1, pytest.approx(5))
    assert found["llm"].share == pytest.approx(0.5)


def test_actors_that_did_nothing_count_and_so_do_those_that_came_later():
    found = measure_timeline(UNITS, {"encoder": 4, "llm": 0}).pools
    assert found["encoder"].share == pytest.approx(9 / 40)
    assert found["llm"].actors == 1


def test_units_of_an_earlier_run_have_no_times():
    assert measure_timeline([unit_result(1)], {"encoder": 1}) is None
    assert measure_timeline([*UNITS, unit_result(4)], {"encoder": 2}) == measure_timeline(
        UNITS, {"encoder": 2}
    )


def test_a_pool_without_units_is_idle():
    pool = measure_timeline([unit_result(1, ReadDocuments=(5, 1, 1))], {"encoder": 3}).pools[
        "encoder"
    ]
    assert (pool.actors, pool.busy_s, pool.share) == (3, 0, 0)


def test_a_run_that_took_no_time_is_no_division_by_zero():
    found = measure_timeline([unit_result(1, RecognizeSpans=(5, 0, 1))], {"encoder": 1})
    assert found.pools["encoder"].share == 0
    assert not any(found.units["RecognizeSpans"])


def test_many_units_agree_with_brute_force(monkeypatch):
    monkeypatch.setattr(timeline, "NUM_BINS", 20)
    dice = random.Random(5)
    began = 1_700_000_000.0  # as large as real ones: differences must not drown
    units = [
        unit_result(
            n, RecognizeSpans=(began + dice.random() * 50, dice.random() * 3, dice.randrange(4))
        )
        for n in range(200)
    ]
    found = measure_timeline(units, {"encoder": 1})
    spans = [
        (u.began["RecognizeSpans"], u.began["RecognizeSpans"] + u.seconds["RecognizeSpans"],
         u.workers["RecognizeSpans"])
        for u in units
    ]  # fmt: skip
    edges = np.linspace(found.began, found.began + found.seconds, 21)
    covered = [
        sum(max(0.0, min(end, right) - max(start, left)) for start, end, _ in spans)
        / (right - left)
        for left, right in pairwise(edges)
    ]
    assert found.units["RecognizeSpans"] == pytest.approx(covered, abs=1e-3)
    moments = np.linspace(found.began, found.began + found.seconds, 20_001)
    busy = sum(
        np.any([(moments >= s) & (moments < e) for s, e, w in spans if w == worker], axis=0).mean()
        for worker in range(4)
    )
    assert found.pools["encoder"].share == pytest.approx(busy / 4, abs=2e-3)
