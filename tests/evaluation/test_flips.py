"""Flips by hand, their interval against simulation."""

import math

import numpy as np
import pyarrow as pa
import pytest

from linkner_ray.evaluation.as_json import as_json
from linkner_ray.evaluation.asking_report import asking_advice, flips_table
from linkner_ray.evaluation.flips import Flips, as_if_routed, count_flips, net_interval, with_total
from linkner_ray.schemas import STAGE_COLUMNS
from linkner_ray.stages.fuse_entities import FuseEntities

FUSE = FuseEntities(("O", "PER", "ORG"))


def judged(start, local, route, said=None, kind="predicted", probs=None):
    """A candidate of three characters, its route, and the class the LLM named."""
    candidate = {
        "sentence": 0,
        "start": start,
        "end": start + 3,
        "label": local,
        "label_probs": probs or [0.2, *([0.6, 0.2] if local == "PER" else [0.2, 0.6])],
        "uncertainty": 0.4,
        "kind": kind,
    }
    verdict = {None: "failed", "O": "non_entity"}.get(said, "label")
    answer = {
        "verdict": verdict,
        "label": said if verdict == "label" else None,
        "probs": None,
        "key": f"k1:{start}",
        "source": "llm",
        "prompt_tokens": 1,
    }
    return candidate, route, answer if route in ("llm", "audit") else None


def documents(*rows):
    columns = {
        name: pa.array([[entry[place] for entry in row] for row in rows], STAGE_COLUMNS[name])
        for place, name in enumerate(("candidates", "routes", "answers"))
    }
    table = pa.table({"text": ["x" * 99] * len(rows), **columns})
    return FUSE(table)


def test_each_kind_of_flip_is_counted_under_its_local_label():
    table = documents(
        [
            judged(0, "PER", "llm", "ORG"),  # gold ORG: put right
            judged(4, "PER", "llm", "ORG"),  # gold PER: put wrong
            judged(8, "PER", "llm", "PER"),  # gold PER: stays right
            judged(12, "ORG", "llm", "O"),  # no gold: dropped, put right
            judged(16, "ORG", "llm", "PER"),  # no gold: stays wrong
            judged(20, "ORG", "llm"),  # no answer, gold ORG: stays right
            judged(24, "ORG", "local"),
        ],
        [judged(0, "PER", "llm", "PER", "near_miss"), judged(4, "PER", "llm", "PER", "near_miss")],
    )
    gold = [{(0, 3, "ORG"), (4, 7, "PER"), (8, 11, "PER"), (20, 23, "ORG")}, {(0, 3, "PER")}]
    assert count_flips(table, gold) == {
        "ORG": Flips(wrong_to_right=1, stayed_wrong=1, stayed_right=1),
        # of the two near misses one is found and one is made up: the local "no" was right there
        "PER": Flips(wrong_to_right=2, right_to_wrong=2, stayed_right=1),
    }


def test_a_right_span_displaced_by_what_the_llm_added_is_put_wrong():
    short = judged(0, "PER", "llm", "PER", probs=[0.4, 0.5, 0.1])
    long = judged(1, "PER", "llm", "PER", "near_miss", probs=[0.3, 0.6, 0.1])
    table = documents([short, long])
    assert count_flips(table, [{(0, 3, "PER")}])["PER"] == Flips(right_to_wrong=2)


def test_an_audit_is_counted_as_if_its_answer_had_counted():
    table = documents([judged(0, "PER", "audit", "O"), judged(4, "ORG", "llm", "ORG")])
    gold = [{(0, 3, "PER"), (4, 7, "ORG")}]
    assert count_flips(table, gold, route="audit")["PER"] == Flips(stayed_right=1)
    asked = as_if_routed(table, FUSE)
    assert count_flips(asked, gold, route="audit") == {"PER": Flips(right_to_wrong=1)}
    assert asked["routes"].equals(table["routes"])


def test_benefit_is_net_and_for_a_thousand():
    flips = Flips(wrong_to_right=3, right_to_wrong=1, stayed_right=5, stayed_wrong=1)
    assert (flips.asked, flips.net_per_1000) == (10, 200.0)
    assert Flips().net_per_1000 == 0.0
    assert Flips().interval == (-1000.0, 1000.0)


def test_without_flips_the_interval_is_that_of_wilson_on_both_sides():
    # Wilson's upper bound of 0 of n is z^2 / (n + z^2): 4 / (16 + 4) = 0.2
    assert net_interval(0, 0, 16, z=2.0) == pytest.approx((-0.2, 0.2))


def test_an_interval_with_one_kind_of_flip_by_hand():
    # z = 2, n = 12: Wilson of 12/12 is [12/16, 1], of 0/12 [0, 4/16]; the difference is 1, its
    # lower bound sqrt(1/16 + 1/16) below it.
    assert net_interval(12, 0, 12, z=2.0) == pytest.approx((1 - math.sqrt(2) / 4, 1.0))


@pytest.mark.parametrize(
    ("up", "down", "total"), [(0.1, 0.05, 100), (0.3, 0.3, 60), (0.01, 0.0, 200), (0.05, 0.2, 40)]
)
def test_the_interval_holds_the_truth_about_19_times_of_20(up, down, total):
    rng = np.random.default_rng(0)
    draws = rng.multinomial(total, [up, down, 1 - up - down], size=2000)
    bounds = [net_interval(int(ups), int(downs), total) for ups, downs, _ in draws]
    held = np.mean([low <= up - down <= high for low, high in bounds])
    assert 0.92 < held <= 1.0


def test_a_label_that_loses_is_named_with_the_line_that_switches_it_off():
    few, many = Flips(right_to_wrong=1, stayed_right=3), Flips(right_to_wrong=30, stayed_right=70)
    routed = {
        "PER": few,
        "ORG": many,
        "LOC": Flips(wrong_to_right=5),
        "MISC": Flips(stayed_wrong=1),
    }
    chance, sure = asking_advice(routed, {})
    # 1 of 4 and 30 of 100
    assert "about PER puts more wrong than right, -250 for each 1,000" in chance
    assert "may be chance" in chance
    assert "`routing.never_ask: [PER]`" in chance
    assert "about ORG puts more wrong than right, -300 for each 1,000" in sure
    assert "beyond doubt. `routing.never_ask: [ORG]`" in sure


def test_advice_tells_gain_from_audits_that_lose_and_is_silent_without_an_llm():
    gains = {"LOC": Flips(wrong_to_right=5, stayed_right=5)}
    audited = {
        "ORG": Flips(right_to_wrong=30, stayed_right=70),
        "PER": Flips(right_to_wrong=1, stayed_right=3),  # may be chance
    }
    none, audit = asking_advice(gains, audited)
    assert "can stay empty" in none
    assert "certain spans of ORG too" in audit
    assert asking_advice({}, {}) == []


def test_the_table_and_the_facts_have_every_label_and_all():
    flips = {"PER": Flips(wrong_to_right=2, stayed_right=2), "ORG": Flips(stayed_wrong=4)}
    assert "| **all** | 8 | 2 | 0 | 2 | 4 | +250 |" in flips_table(flips)
    assert "| PER | 4 | 2 | 0 | 2 | 0 | +500 |" in flips_table(flips)
    metrics = as_json(with_total(flips))
    assert metrics["all"]["net_per_1000"] == 250.0
    assert metrics["ORG"]["stayed_wrong"] == metrics["ORG"]["asked"] == 4
