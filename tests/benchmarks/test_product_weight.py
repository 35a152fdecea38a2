"""A weight that is fitted on the other half: every share, and who has a say in it."""

import json

import pyarrow as pa

from benchmarks import product_weight
from benchmarks.product_weight import FITTED, OVERRIDE, PRODUCT, SHARES, compare
from linkner_ray.config import FusionConfig
from linkner_ray.schemas import STAGE_COLUMNS


def test_every_system_at_every_share(arguments, tmp_path, capsys):
    numbers = product_weight.main(arguments)
    points = {point["share"]: point for point in numbers["points"]}
    assert tuple(points) == SHARES
    # Nobody is asked at share 0, so there is nothing to fuse.
    assert len(set(points[0.0]["f1"].values())) == 1
    assert points[1.0]["fitted"] != points[0.0]["fitted"]
    for point in points.values():
        assert point["f1"].keys() == {OVERRIDE, PRODUCT, FITTED}
    printed = json.loads((tmp_path / "numbers.json").read_text())
    assert [point["f1"] for point in printed["points"]] == [
        point["f1"] for point in numbers["points"]
    ]
    assert "| 100% |" in capsys.readouterr().out


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
    gold = [[(0, 3, ("ORG", "PER")[n % 2])] for n in range(6)]
    product = FusionConfig(strategy="product")
    [point] = compare(table, gold, {1.0: 0.0}, classes, product)
    weight, reliability = point.fitted["even"]
    assert (weight, reliability) == (1, 0.99)
    assert point.fitted["odd"][1] == 0.01
    assert point.f1[FITTED] == 0
    assert point.f1[OVERRIDE] == 0.5
    # With one truth for all, each half teaches the other the right thing.
    agreed = [[(0, 3, "ORG")]] * 6
    [point] = compare(table, agreed, {1.0: 0.0}, classes, product)
    assert point.f1[FITTED] == point.f1[OVERRIDE] == 1
