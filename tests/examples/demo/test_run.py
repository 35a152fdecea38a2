"""The demo as a user runs it: a model trained, a real engine asked, the result looked at."""

import json
import math
import os
import re
import subprocess
import sys

import pyarrow.dataset as ds
import pytest

from examples.demo.world import NUM_PARQUET_PAGES, NUM_WET_PAGES
from tests.pages import Page

pytestmark = [pytest.mark.ray, pytest.mark.vllm]

OWN_MODELS = pytest.mark.skipif(
    bool(os.environ.get("LLM") or os.environ.get("ENCODER")), reason="other models do otherwise"
)


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
        # A model is trained here, unlike elsewhere in the tests: all cores may help. Beside
        # other tests, threads that wait for each other took over four times as long as alone.
        del environment["OMP_NUM_THREADS"]
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", *options],
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
    assert summary["pages"] == len(rows) + quarantined == NUM_PARQUET_PAGES + NUM_WET_PAGES + 2
    assert summary["entities"] == sum(len(row["entities"]) for row in rows)
    assert sum(summary["llm_verdicts"].values()) > 0
    assert 0 < summary["routed_share"] < 1
    assert set(summary) >= {
        "pages", "characters", "spans", "routed_share", "llm_verdicts", "f1_local", "f1_linked",
        "seconds",
    }  # fmt: skip


@pytest.mark.timeout(2400)
@OWN_MODELS
def test_the_engine_answers_every_routed_span(demo):
    output, _ = demo
    totals = json.loads((output / "_manifest.json").read_text())["totals"]
    assert totals["routed"] == totals["verdict_label"] + totals["verdict_non_entity"] > 0
    assert totals["prompt_tokens"] > 0
    answers = ds.dataset(output / "candidates").to_table()["answers"].to_pylist()
    given = [answer for row in answers for answer in row if answer is not None]
    assert len(given) == totals["routed"] + totals["same_name"]
    assert all(math.isclose(sum(answer["probs"]), 1, abs_tol=1e-3) for answer in given)


@pytest.mark.timeout(2400)
@OWN_MODELS
def test_the_llm_helps_on_names_the_local_model_has_not_met(demo):
    output, _ = demo
    summary = json.loads((output / "summary.json").read_text())
    assert summary["f1_local"] > 0.6
    assert summary["f1_linked"] > summary["f1_local"] + 0.05


@pytest.mark.timeout(2400)
def test_what_is_promised_is_there_and_every_entity_is_its_text(demo):
    output, printed = demo
    for name in ("_SUCCESS", "_manifest.json", "report.html", "preview.html", "plots/f1_1.png"):
        assert (output / name).exists(), name
    for row in ds.dataset(output / "entities").to_table().to_pylist():
        for entity in row["entities"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["text"]
    assert "knows nothing outside the demo" in (output / "report.md").read_text()
    assert "linked F1" in printed
    preview = Page((output / "preview.html").read_text())
    assert "\nThe first labelled pages.\n" in preview.text
    assert any(re.search("\nLLM label: .*; [A-Z]+ 0\\.", mark[4]) for mark in preview.marks)
