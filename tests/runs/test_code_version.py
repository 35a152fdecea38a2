"""Identity is content, and only content: which change of our code makes another output."""

import shutil
import sys

import pytest

from linkner_ray.runs import code_version
from linkner_ray.runs.code_version import DECIDING, LIBRARIES, PACKAGE
from linkner_ray.spanner.checkpoint import library_versions
from tests.test_layers import imported_modules, imports

CARRYING = {
    "config", "errors", "fault_injection", "logs", "storage", "runs.code_version", "runs.finished",
    "runs.fingerprint", "runs.manifest", "runs.packed_counts", "runs.part_cache", "runs.part_work",
    "runs.previous", "runs.row_index",
}  # fmt: skip
"""What a worker's steps import besides, and what decides no byte of a unit: where bytes go, how
errors and progress are told, what an earlier run left, and the config, whose values are in the
plan."""


CARRYING_LIBRARIES = {
    "brotli", "fsspec", "httpx2", "huggingface_hub", "openai", "pydantic", "safetensors",
    "scipy", "sklearn", "yaml", "zstandard",
}  # fmt: skip
"""What the deciding rooms import besides: stores, codings without loss, the wire, the parts of a
checkpoint; what training fits with SciPy and scikit-learn is a number in the checkpoint."""


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package, which the digest is taken of."""
    package = shutil.copytree(
        PACKAGE, tmp_path / "linkner_ray", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(code_version, "PACKAGE", package)
    return package


def digest():
    return code_version._sources_digest()


@pytest.mark.parametrize(
    ("file", "decides"),
    [
        ("stages/route_spans.py", True),
        ("spanner/calibration/recalibration.py", True),
        ("llm/prompts.py", True),
        ("readers/warc.py", True),
        ("runs/units.py", True),
        ("stages/chain.py", True),
        ("schemas.py", True),
        ("config/budget.py", True),
        ("config/data.py", False),
        ("cli/app.py", False),
        ("reporting/run_report.py", False),
        ("evaluation/curves.py", False),
        ("nightly/night.py", False),
        ("extract/unit_rows.py", False),
        ("runs/lock.py", False),
    ],
)
def test_a_comment_counts_where_bytes_are_decided_and_nowhere_else(copy, file, decides):
    before = digest()
    with (copy / file).open("a") as stream:
        stream.write("# A comment.\n")
    assert (digest() != before) == decides


def test_a_file_that_joins_or_moves_counts(copy):
    before = digest()
    (copy / "stages" / "another.py").touch()
    joined = digest()
    (copy / "stages" / "another.py").rename(copy / "stages" / "other.py")
    assert len({before, joined, digest()}) == 3


def test_the_place_of_the_package_and_caches_do_not_count(copy):
    before = digest()
    (copy / "stages" / "__pycache__").mkdir()
    (copy / "stages" / "__pycache__" / "route_spans.cpython-311.pyc").write_bytes(b"x")
    assert digest() == before


def test_every_place_of_the_list_is_there():
    assert [place for place in DECIDING if not (PACKAGE / place).exists()] == []


def test_all_that_the_steps_of_a_worker_import_is_listed_or_known_to_decide_nothing():
    found, waiting = set(), ["linkner_ray.stages.chain"]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imported_modules(module)
    places = {place.removesuffix(".py").replace("/", ".") for place in DECIDING}
    known = tuple(f"linkner_ray.{name}" for name in places | CARRYING)
    strangers = {m for m in found if not any(m == k or m.startswith(f"{k}.") for k in known)}
    assert strangers <= {"linkner_ray"}


def test_the_libraries_of_the_deciding_rooms_are_listed_or_known_to_decide_nothing():
    rooms = [f"linkner_ray.{place}".removesuffix(".py").replace("/", ".") for place in DECIDING]
    imported = {
        name.split(".")[0]
        for module, names in imports().items()
        if any(module == room or module.startswith(f"{room}.") for room in rooms)
        for name in names
    }
    others = imported - {*sys.stdlib_module_names, "linkner_ray"}
    assert others <= {library.lower() for library in LIBRARIES} | CARRYING_LIBRARIES
    assert {"pyarrow", "torch"} <= others


def test_what_a_self_check_names_is_listed():
    assert set(library_versions()) <= set(LIBRARIES)
