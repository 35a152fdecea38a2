import json

import pytest

from benchmarks import starts
from tests.spanner import tiny

WAYS = {
    *("torch", "transformers", "transformers_and_weights", "encoder_imports"),
    *("encoder_imports_with_ray_data", "help", "extract_dry_run"),
    *("predict_first", "predict_second"),
}


def test_an_interpreter_that_fails_is_no_figure():
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3:\nbroken"):
        starts.cpu_seconds("import sys; print('broken', file=sys.stderr); sys.exit(3)", {})


def test_processor_seconds_are_those_of_the_work_and_not_of_waiting():
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    assert 0.5 <= starts.cpu_seconds(busy, {}) < 1.5
    assert starts.cpu_seconds("import time; time.sleep(1)", {}) < 0.5


def test_every_way_is_in_the_table_beside_its_aim(tmp_path, capsys, monkeypatch):
    tiny.model().save_pretrained(tmp_path / "checkpoint")
    asked = []

    def seconds(code, environment):
        asked.append((code, environment["LINKNER_SELF_CHECKS"]))
        return 2.0 if code == "import torch" else 3.0

    monkeypatch.setattr(starts, "cpu_seconds", seconds)
    file = tmp_path / "numbers.json"
    starts.main(
        ["--checkpoint", str(tmp_path / "checkpoint"), "--rounds", "2", "--json", str(file)]
    )
    numbers = json.loads(file.read_text())
    assert {name[6:] for name in numbers if name.startswith("cpu_s_")} == WAYS
    assert numbers["ratio_encoder_imports_to_torch"] == 1.5
    assert numbers["ratio_predict_second_to_transformers_and_weights"] == 1.0
    assert len(asked) == 3 * len(WAYS)
    assert len({memory for _, memory in asked}) == 3  # each round begins with none
    assert "| encoder imports | 3.00 | 1.50 | 1.5 times torch | 1.50 |" in capsys.readouterr().out
