"""Two evaluations held against each other, from their files."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linkner_ray.cli import main
from linkner_ray.errors import ConfigError, DataError
from linkner_ray.evaluation.comparison import compare_evaluations
from linkner_ray.runs.folder import parquet_bytes
from linkner_ray.schemas import ENTITY, PREDICTIONS

NUM_DOCUMENTS = 60


def entity(start, end, label):
    row = dict.fromkeys([field.name for field in ENTITY])
    return row | {"start": start, "end": end, "label": label}


def write(folder, *, names=("test",), linked_right=NUM_DOCUMENTS, gold_label="PER"):
    """Each document has one PER, found locally in every other one."""
    rows = [
        {
            "doc_id": f"d{number}",
            "text": "Ada met Bob",
            "gold": [{"start": 0, "end": 3, "label": gold_label}],
            "local": [entity(0, 3, "PER")] if number % 2 else [entity(0, 3, "ORG")],
            "entities": [entity(0, 3, "PER" if number < linked_right else "ORG")],
            "candidates": [],
            "routes": [],
            "answers": [],
        }
        for number in range(NUM_DOCUMENTS)
    ]
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / "predictions" / f"{name}.parquet"
        path.write_bytes(parquet_bytes(pa.Table.from_pylist(rows, schema=PREDICTIONS)))
    metrics = {"sets": [{"name": name} for name in names]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return str(folder)


def test_differences_with_their_intervals(tmp_path):
    first = write(tmp_path / "a", linked_right=30)
    second = write(tmp_path / "b", names=("test", "more"), linked_right=60)
    found = compare_evaluations(first, second)
    assert (found.only_first, found.only_second) == ((), ("more",))
    by_key = {(one.system, one.label): one for one in found.differences}
    assert by_key.keys() == {(s, label) for s in ("local", "linked") for label in ("all", "PER")}
    local, linked = by_key["local", "all"], by_key["linked", "all"]
    assert (local.first, local.second) == (0.5, 0.5)
    assert local.gain.is_inside
    assert (linked.first, linked.second, linked.num_gold) == (0.5, 1.0, 60)
    assert 0.35 < linked.gain.low < 0.5 < linked.gain.high < 0.65
    # The ORG that should be PER is no prediction of PER: 30 of 60 found, none invented.
    assert by_key["linked", "PER"].first == pytest.approx(2 / 3)
    back = compare_evaluations(second, first)
    assert {d.gain.difference for d in back.differences if d.system == "linked"} == {
        -d.gain.difference for d in found.differences if d.system == "linked"
    }


def test_sets_that_an_earlier_evaluation_left_behind_are_not_compared(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder, names=("test", "earlier"))
        write(tmp_path / folder)
    found = compare_evaluations(str(tmp_path / "a"), str(tmp_path / "b"))
    assert {one.set_name for one in found.differences} == {"test"}


def test_the_command(tmp_path, capsys):
    first, second = write(tmp_path / "a", linked_right=30), write(tmp_path / "b")
    numbers = tmp_path / "numbers.json"
    assert main(["compare", first, second, "--json", str(numbers)]) == 0
    page = capsys.readouterr().out
    assert "| test | linked | **all** | 60 | 0.5000 | 1.0000 | +50.00 |" in page
    assert page.count("inside its interval") == 2  # local, all and PER
    differences = json.loads(numbers.read_text())["differences"]
    assert [(d["system"], d["gain"]["is_inside"]) for d in differences] == [
        ("local", True),
        ("local", True),
        ("linked", False),
        ("linked", False),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "60 documents and 59"),
        (lambda rows: [{**row, "doc_id": "x"} for row in rows], "doc_id of document 0 is 'd0'"),
        (lambda rows: [*rows[:9], {**rows[9], "text": "Bo"}, *rows[10:]], "text of document 9"),
    ],
)
def test_sets_that_are_not_the_same_are_refused_with_what_differs(tmp_path, change, message):
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    path = tmp_path / "b" / "predictions" / "test.parquet"
    rows = change(pq.read_table(path).to_pylist())
    path.write_bytes(parquet_bytes(pa.Table.from_pylist(rows, schema=PREDICTIONS)))
    with pytest.raises(DataError, match=f"set 'test' is not the same in both: {message}"):
        compare_evaluations(first, second)


def test_predictions_of_an_earlier_release_are_refused(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    path = tmp_path / "b" / "predictions" / "test.parquet"
    path.write_bytes(parquet_bytes(pq.read_table(path).drop_columns(["gold", "local"])))
    with pytest.raises(DataError, match="has no column gold, local; an earlier release wrote it"):
        compare_evaluations(first, second)


def test_what_cannot_be_compared_is_refused(tmp_path):
    first = write(tmp_path / "a")
    with pytest.raises(ConfigError, match=r"there is no metrics\.json with scores"):
        compare_evaluations(first, str(tmp_path / "nothing"))
    begun = write(tmp_path / "begun")
    for metrics in ('{"format": "linkner-evaluation"}', '{"sets": [', "3"):
        (tmp_path / "begun" / "metrics.json").write_text(metrics)
        with pytest.raises(ConfigError, match=r"begun: there is no metrics\.json with scores"):
            compare_evaluations(first, begun)
    with pytest.raises(ConfigError, match="none in common"):
        compare_evaluations(first, write(tmp_path / "b", names=("other",)))
    with pytest.raises(DataError, match="gold of document 0"):
        compare_evaluations(first, write(tmp_path / "c", gold_label="ORG"))
    (tmp_path / "a" / "predictions" / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        compare_evaluations(first, write(tmp_path / "d"))
