import json
import random

import pytest

from benchmarks import chaos
from linkner_ray.fault_injection import POINTS


def test_every_kind_of_kill_comes_as_often_as_every_other_and_a_seed_repeats_them():
    kinds = list(chaos.schedule(34, random.Random(3)))
    assert kinds == list(chaos.schedule(34, random.Random(3)))
    assert {kinds.count(each) for each in kinds} == {2}
    assert {kind for kind, _ in kinds} == {*chaos.PROCESSES, *POINTS}
    assert {store for _, store in kinds} == {"local", "s3"}


def test_what_differs_is_named_file_by_file():
    wanted = {"a": b"1", "b": b"2", "c": b"3"}
    assert chaos.compare(wanted, dict(wanted)) == []
    assert chaos.compare(wanted, {"a": b"1", "b": b"x", "d": b""}) == [
        "b differs", "c is too much or missing", "d is too much or missing",
    ]  # fmt: skip


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.filterwarnings("default")
def test_killed_runs_end_with_the_bytes_of_one_never_killed(tmp_path, monkeypatch, capsys):
    kills = [("rename", "local"), ("encoder", "s3")]
    monkeypatch.setattr(chaos, "schedule", lambda runs, _: kills[:runs])
    numbers = chaos.main(["--runs", "2", "--json", str(tmp_path / "chaos.json")])
    assert (numbers["runs"], numbers["mismatches"]) == (2, 0), numbers["differences"]
    assert sum(numbers["kills"].values()) + numbers["too_late"] == 2
    assert json.loads((tmp_path / "chaos.json").read_text()) == numbers
    assert '"mismatches": 0' in capsys.readouterr().out
