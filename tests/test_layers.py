"""Who may import whom: the layers of the house."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "linkner_ray"

LAYERS = (
    (
        "errors", "labels", "schemas", "spans", "unread", "storage", "logs", "fault_injection",
        "config",
    ),
    ("corpora", "spanner", "llm", "runs"),
    ("readers", "linking"),
    ("stages", "reporting"),
    ("api", "extract", "training", "evaluation"),
    ("nightly",),
    ("cli",),
)  # fmt: skip
"""Rooms and single modules. Each imports from lower layers, and from what stands before it in its
own layer; the words of the domain, layer 0, may import each other."""

PLACE = {room: (layer, i) for layer, rooms in enumerate(LAYERS) for i, room in enumerate(rooms)}

KNOWS_RAY = {
    "extract.metrics",
    "extract.pipeline",
    "extract.ray_start",
    "extract.spread",
    "training",
}
"""Modules, or rooms, that may import Ray."""

SHARED_BY_STAGES = {"contract", "demonstration_source", "document_tokens", "unit", "words"}
"""Modules of `stages/` that its other modules may import."""


@cache
def imports() -> dict[str, set[str]]:
    """Every module of ours with the names it imports, wherever in the file it does."""
    found = {}
    for top in ("linkner_ray", "benchmarks", "jobs", "examples"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names = set()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names |= {f"{node.module}.{alias.name}" for alias in node.names}
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = names
    return found


def imported_modules(module: str) -> set[str]:
    """Modules of ours that a module imports; of `from package import name` the module it means."""
    known = imports()
    found = set()
    for name in known[module]:
        parent = name.rpartition(".")[0]
        found |= {name} & known.keys() or {parent} & known.keys()
    return found - {module}


def room_of(module: str) -> str:
    return module.split(".")[1]


def in_package() -> list[str]:
    return [name for name in imports() if name.startswith("linkner_ray.")]


def may_import(module: str, other: str) -> bool:
    if not other.startswith("linkner_ray."):
        return other == "linkner_ray"  # anything else is not shipped
    room, other_room = room_of(module), room_of(other)
    same_ground = other_room == room or PLACE[other_room][0] == PLACE[room][0] == 0
    return same_ground or PLACE[other_room] < PLACE[room]


def test_a_module_imports_only_from_what_stands_before_it():
    assert {room_of(module) for module in in_package()} <= set(PLACE), "give it a place in LAYERS"
    wrong = [
        f"{module} imports {other}"
        for module in in_package()
        for other in imported_modules(module)
        if not may_import(module, other)
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: imported_modules(module) for module in imports()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(error.args[1]))}")


def test_the_house_is_small_at_the_top():
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert len(files) <= 8
    assert len(LAYERS) <= 7
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert files | rooms == set(PLACE)


def test_few_modules_know_ray():
    know_ray = {
        module.removeprefix("linkner_ray.")
        for module in in_package()
        if any(name == "ray" or name.startswith("ray.") for name in imports()[module])
    }
    assert {m for m in know_ray if not {m, m.split(".")[0]} & KNOWS_RAY} == set()
    assert {m.split(".")[0] for m in know_ray} == {name.split(".")[0] for name in KNOWS_RAY}


def test_stages_do_not_import_each_other():
    stages = "linkner_ray.stages."
    wrong = [
        f"{module} imports {other}"
        for module in in_package()
        # all but the one that puts them together
        if module.startswith(stages) and module != f"{stages}chain"
        for other in imported_modules(module)
        if other.startswith(stages) and other.removeprefix(stages) not in SHARED_BY_STAGES
    ]
    assert wrong == []


def test_no_file_is_called_utils():
    stems = {module.rpartition(".")[2] for module in imports()}
    assert not stems & {"utils", "util", "helpers", "misc"}


def test_what_reading_and_writing_workers_import_does_not_load_a_model_library():
    heavy = "{'torch', 'transformers', 'vllm', 'matplotlib'}"
    modules = "linkner_ray.extract.pipeline, linkner_ray.stages.chain, sys"
    done = subprocess.run(
        [sys.executable, "-c", f"import {modules}; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
