"""Who may import whom: the layers of the house."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "linkner_ray"

LAYERS = {
    "errors": 0,
    "spans": 0,
    "labels": 0,
    "schemas": 0,
    "budget": 0,
    "config": 0,
    "config_files": 0,
    "storage": 0,
    "fault_points": 0,
    "shutdown": 0,
    "corpora": 1,
    "spanner": 1,
    "llm": 1,
    "runs": 1,
    "readers": 2,
    "run_metrics": 2,
    "progress": 2,
    "progress_views": 3,
    "logs": 0,
    "ray_start": 1,
    "stages": 2,
    "demonstration_source": 2,
    "evaluation": 3,
    "unit_steps": 3,
    "dev_set": 4,
    "training": 5,
    "pipeline": 4,
    "show": 4,
    "predict_text": 5,
    "preview": 5,
    "extraction_plan": 4,
    "extraction": 5,
    "benchmark": 5,
    "extraction_report": 6,
    "incremental_report": 6,
    "planning": 6,
    "planning_report": 7,
    "nightly_checks": 7,
    "nightly_report": 7,
    "nightly": 8,
    "linkner": 4,
    "cli_compare": 7,
    "cli_failures": 7,
    "cli_labels": 7,
    "cli_cache": 7,
    "cli_verify": 7,
    "cli_preview": 7,
    "cli_nightly": 9,
    "cli": 10,
}
"""A module imports from its own part or a lower layer."""

SHARED_IN_PART = {"stages": {"contract"}}
"""Modules of a part whose other modules do not import each other, but may import these."""

RAY_ALLOWED = {"ray_start", "training", "pipeline", "run_metrics"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_part_or_a_lower_layer(path):
    part = part_of(path)
    if part == "__init__":
        return
    assert part in LAYERS, f"{part} has no layer: give it one in LAYERS"
    for name in imports(path):
        if not name.startswith("linkner_ray.") or not is_module(name):
            continue
        other = name.split(".")[1]
        if other == part:
            continue
        same_ground = LAYERS[other] == LAYERS[part] == 0
        assert same_ground or LAYERS[other] < LAYERS[part], (
            f"{path.name} (layer {LAYERS[part]}) imports {name}"
        )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_training_pipeline_and_metrics_know_ray(path):
    knows_ray = any(name == "ray" or name.startswith("ray.") for name in imports(path))
    assert not knows_ray or part_of(path) in RAY_ALLOWED


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("*.py")), ids=lambda p: p.name)
def test_stages_do_not_import_each_other(path):
    for name in imports(path):
        if name.startswith("linkner_ray.stages.") and is_module(name):
            assert name.split(".")[2] in SHARED_IN_PART["stages"]


def test_no_file_is_called_utils():
    assert not [path for path in modules() if path.stem in {"utils", "util", "helpers", "misc"}]


def test_what_reading_and_writing_workers_import_does_not_load_a_model_library():
    heavy = "{'torch', 'transformers', 'vllm', 'matplotlib'}"
    modules = "linkner_ray.extract.pipeline, linkner_ray.extract.unit_steps, sys"
    done = subprocess.run(
        [sys.executable, "-c", f"import {modules}; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
