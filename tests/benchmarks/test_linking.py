import json

import numpy as np
import pytest

from benchmarks import linking
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
    systems = {"oracle", *linking.STRATEGIES, "product, any spans"}
    assert points.keys() == {(s, share) for s in systems for share in linking.SHARES}
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
    ordered = [first[share] for share in linking.SHARES]
    assert ordered == sorted(ordered, reverse=True)
    assert np.isclose(first[1.0], 0)
