import inspect
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.scale_nodes import sleeping_step
from benchmarks.scale_plan import simulate_plan
from benchmarks.scale_work import steady_rate
from linkner_ray.extract import pipeline


def test_the_rate_of_a_run_leaves_out_what_came_before_its_first_file(tmp_path):
    (tmp_path / "entities").mkdir()
    files = []
    # 10 documents until second 100, then 20 within 4 s and 30 within 6 more.
    for name, at, rows in (("a", 100, 10), ("b", 104, 20), ("c", 110, 30)):
        path = tmp_path / "entities" / name
        path.touch()
        os.utime(path, (at, at))
        files.append({"path": f"entities/{name}", "rows": rows})
    files.append({"path": "_quarantine/a", "rows": 7})
    pq.write_table(pa.Table.from_pylist(files), tmp_path / "_manifest.parquet")
    rate = steady_rate(tmp_path)
    assert (rate.documents, rate.docs_per_s, rate.first_at) == (60, 5.0, 100.0)


def test_a_simulated_driver_plans_what_is_left(capsys):
    numbers = simulate_plan(2_000)
    assert numbers["planned_shards"] == 200
    assert numbers["planned_shards_left"] == 2  # every hundredth
    assert "planned_kib_per_unit" in capsys.readouterr().out


def test_sleeping_encoders_are_made_as_the_pipeline_makes_its_own():
    ours, theirs = map(inspect.signature, (sleeping_step, pipeline._recognize))
    assert list(ours.parameters) == list(theirs.parameters)


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.filterwarnings("default")
def test_two_sizes_are_run_and_compared(tmp_path):
    # A process of its own: this one may be connected to the Ray of other tests.
    command = [sys.executable, "-m", "benchmarks.scale", "--sizes", "150", "300", "--json"]
    printed = subprocess.run(
        [*command, str(tmp_path / "numbers.json")], check=True, capture_output=True, text=True
    ).stdout
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert (numbers["documents_150"], numbers["documents_300"]) == (150, 300)
    expected = numbers["docs_per_s_300"] / numbers["docs_per_s_150"]
    assert numbers["docs_per_s_ratio"] == pytest.approx(expected)
    for part in ("driver", "worker"):
        assert numbers[f"{part}_mib_150"] > 50
        expected = numbers[f"{part}_mib_300"] / numbers[f"{part}_mib_150"]
        assert numbers[f"peak_memory_ratio_{part}"] == pytest.approx(expected)
    assert "| 300 |" in printed
