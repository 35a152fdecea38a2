"""The demo as a user runs it: both models trained, a real engine asked, the result looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from linkner_ray.demo.llm import LlmReport
from linkner_ray.demo.run import _how_good

pytestmark = [pytest.mark.ray, pytest.mark.vllm]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Output folder of a demo, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    options = []
    for name in ("LLM", "ENCODER"):
        if os.environ.get(name):
            options += [f"--{name.lower()}", os.environ[name]]
    environment = dict(os.environ)
    if "PYTEST_XDIST_WORKER" not in environment:
        # Two models are trained here, unlike elsewhere in the tests: all cores may help. Beside
        # other tests, threads that wait for each other took over four times as long as alone.
        del environment["OMP_NUM_THREADS"]
    done = subprocess.run(
        [sys.executable, "-m", "linkner_ray.cli", "demo", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "demo-output", done.stdout


@pytest.mark.timeout(2400)
def test_the_summary_has_the_promised_figures_and_they_agree_with_the_files(demo):
    output, _ = demo
    summary = json.loads((output / "summary.json").read_text())
    rows = ds.dataset(output / "entities").to_table().to_pylist()
    quarantined = ds.dataset(output / "_quarantine").to_table().num_rows
    assert summary["pages"] == len(rows) + quarantined == 362
    assert summary["entities"] == sum(len(row["entities"]) for row in rows)
    assert sum(summary["llm_verdicts"].values()) > 0
    assert 0 < summary["routed_share"] < 1
    assert set(summary) >= {
        "pages", "characters", "spans", "routed_share", "llm_verdicts", "f1_local", "f1_linked",
        "seconds",
    }  # fmt: skip


@pytest.mark.timeout(2400)
@pytest.mark.skipif(
    bool(os.environ.get("LLM") or os.environ.get("ENCODER")), reason="scores are of other models"
)
def test_the_llm_helps_on_names_the_local_model_has_not_met(demo):
    output, _ = demo
    summary = json.loads((output / "summary.json").read_text())
    assert summary["f1_local"] > 0.6
    assert summary["f1_linked"] > summary["f1_local"] + 0.03


@pytest.mark.timeout(2400)
def test_what_is_promised_is_there_and_every_entity_is_its_text(demo):
    output, printed = demo
    for name in ("_SUCCESS", "_manifest.json", "report.md", "preview.html", "plots/f1_1.png"):
        assert (output / name).exists(), name
    for row in ds.dataset(output / "entities").to_table().to_pylist():
        for entity in row["entities"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["text"]
    assert "knows nothing outside the demo" in (output / "report.md").read_text()
    assert "linked F1" in printed


@pytest.mark.parametrize(
    ("steps", "accuracy", "is_short"), [(99, 0.5, True), (99, 0.99, False), (800, 0.9, False)]
)
def test_the_demo_says_so_if_its_llm_was_cut_short(steps, accuracy, is_short):
    learnt = LlmReport(
        steps=steps, accuracy=accuracy, seconds=1.0, num_parameters=1, num_shared_tokens=1
    )
    said = _how_good(learnt, Path("models/llm"))
    assert said.startswith(f"{steps} steps, dev accuracy {accuracy:.3f}")
    assert ("remove models/llm" in said) == is_short
