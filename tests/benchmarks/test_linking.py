import json

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import linking
from benchmarks.linking_curve import OTHER_HALF, SHARES, fitted_on_the_other_half
from linkner_ray.config import FusionConfig
from linkner_ray.corpora.tables import GoldEntity
from linkner_ray.schemas import STAGE_COLUMNS
from tests.spanner import tiny

CORPUS = (
    "Peter B-PER\nBlackburn I-PER\nmet O\nMicrosoft B-ORG\n. O\n\n"
    "Paris B-LOC\n, O\nLondon B-LOC\nand O\nNew B-LOC\nYork I-LOC\n. O\n\n"
)
RECORDED = (
    {
        "index": 0,
        "tokens": ["Peter", "Blackburn", "met", "Microsoft", "."],
        "entities": [[0, 2, "PER"], [3, 4, "LOC"]],
    },
    {
        "index": 1,
        "tokens": ["Paris", ",", "London", "and", "New", "York", "."],
        "entities": None,
    },
)


@pytest.fixture
def arguments(tmp_path):
    tiny.model().save_pretrained(tmp_path / "checkpoint")
    (tmp_path / "set.conll").write_text(CORPUS)
    (tmp_path / "replay.jsonl").write_text("\n".join(map(json.dumps, RECORDED)))
    return [
        *("--checkpoint", str(tmp_path / "checkpoint"), "--threads", "1"),
        *("--dev", str(tmp_path / "set.conll"), "--set", str(tmp_path / "set.conll")),
        *("--replay", str(tmp_path / "replay.jsonl")),
        *("--plot", str(tmp_path / "curve.png"), "--json", str(tmp_path / "numbers.json")),
    ]


def test_every_system_at_every_threshold(arguments, tmp_path, capsys):
    numbers = linking.main(arguments)
    points = {(p["system"], p["dev_share"]): p for p in numbers["points"]}
    systems = {"oracle", *linking.STRATEGIES, "product, any spans", OTHER_HALF}
    assert points.keys() == {(s, share) for s in systems for share in SHARES}
    # Nobody is asked at share 0, and everybody at 1, whoever answers.
    local = points["override", 0.0]
    for system in systems:
        assert points[system, 0.0]["asked_share"] == 0
        assert points[system, 0.0]["f1"] == local["f1"]
        assert points[system, 1.0]["asked_share"] == 1
    assert points["oracle", 1.0]["precision"] == 1
    assert points["oracle", 1.0]["f1"] >= points["override", 1.0]["f1"]
    assert json.loads((tmp_path / "numbers.json").read_text()) == numbers
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "| oracle |" in capsys.readouterr().out
    # 1 of 2 recorded entities is right, of 5 gold ones: P 1/2, R 1/5
    assert numbers["llm_alone_f1"] == pytest.approx(2 / 7)
    verdicts = {key: n for key, n in numbers.items() if key.startswith("verdict_")}
    assert sum(verdicts.values()) == numbers["candidates"]


def test_dev_thresholds_ask_the_wanted_share_and_look_at_no_gold(arguments, tmp_path):
    first = {p["dev_share"]: p["threshold"] for p in linking.main(arguments)["points"]}
    (tmp_path / "other.conll").write_text(CORPUS.replace("B-LOC", "B-ORG"))
    arguments[arguments.index("--dev") + 1] = str(tmp_path / "other.conll")
    again = {p["dev_share"]: p["threshold"] for p in linking.main(arguments)["points"]}
    assert first == again
    ordered = [first[share] for share in SHARES]
    assert ordered == sorted(ordered, reverse=True)
    assert np.isclose(first[1.0], 0)


def test_no_sentence_has_a_say_in_its_own_weight():
    classes = ("O", "PER", "ORG")
    candidate = {
        "sentence": 0, "start": 0, "end": 3, "label": "PER", "label_probs": [0.1, 0.6, 0.3],
        "uncertainty": 0.4, "kind": "predicted",
    }  # fmt: skip
    answer = {"verdict": "label", "label": "ORG", "probs": None, "key": "k1:0", "source": "llm"}
    columns = {"candidates": [candidate], "routes": ["llm"], "answers": [answer]}
    table = pa.table(
        {
            "doc_id": [str(n) for n in range(6)],
            "text": ["Ada"] * 6,
            **{name: pa.array([one] * 6, STAGE_COLUMNS[name]) for name, one in columns.items()},
        }
    )
    # The LLM is right about every even sentence, the local model about every odd one. A weight
    # that knew its own half would score 1; what the other half teaches is wrong each time.
    gold = [[GoldEntity(start=0, end=3, label=("ORG", "PER")[n % 2])] for n in range(6)]
    [point], fitted = fitted_on_the_other_half(table, gold, {1.0: 0.0}, classes, FusionConfig())
    assert fitted["reliability_fitted_on_even_at_1"] == 0.99
    assert fitted["reliability_fitted_on_odd_at_1"] == 0.01
    assert fitted["weight_fitted_on_even_at_1"] == 1
    assert (point.system, point.asked_share, point.f1) == (OTHER_HALF, 1.0, 0.0)
    # With one truth for all, each half teaches the other the right thing.
    agreed = [[GoldEntity(start=0, end=3, label="ORG")]] * 6
    [point], _ = fitted_on_the_other_half(table, agreed, {1.0: 0.0}, classes, FusionConfig())
    assert point.f1 == 1.0
