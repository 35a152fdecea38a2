"""What `ray job submit --working-dir .` uploads."""

import zipfile

import pytest
from ray._private.ray_constants import (
    DASHBOARD_CLIENT_MAX_SIZE,
    get_runtime_env_default_excludes,
)
from ray._private.runtime_env.packaging import create_package

from tests.cluster.repository import copy_checkout

LIMIT_BYTES = 5 * 2**20

STAYS = [
    ".git/objects/pack/a.pack",
    ".venv/lib/python3.11/site-packages/torch/lib/libtorch.so",
    ".cache/models/model.safetensors",
    ".mypy_cache/3.11/cache.json",
    ".pytest_cache/README.md",
    ".hypothesis/examples/a",
    "checkpoints/spanner/model.safetensors",
    "demo-output/run/entities/part-0.parquet",
    "runs-output/entities/part-0.parquet",
    "linkner_ray/__pycache__/cli.cpython-311.pyc",
    "linkner_ray.egg-info/PKG-INFO",
    "run.log",
]
"""What work leaves in a checkout, and nobody needs on a cluster."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout in which somebody has worked, and its own files."""
    folder = tmp_path_factory.mktemp("checkout")
    names = copy_checkout(folder)
    for name in STAYS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(LIMIT_BYTES))
    return folder, names


@pytest.fixture(scope="module")
def package(checkout, tmp_path_factory):
    """The archive that Ray makes of it."""
    folder, _ = checkout
    path = tmp_path_factory.mktemp("package") / "package.zip"
    create_package(
        str(folder), path, include_gitignore=True, excludes=get_runtime_env_default_excludes()
    )
    return path


def test_the_upload_is_small(package):
    assert package.stat().st_size < LIMIT_BYTES < DASHBOARD_CLIENT_MAX_SIZE


def test_what_work_leaves_behind_is_not_uploaded(package):
    with zipfile.ZipFile(package) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
    assert not files & set(STAYS)


def test_all_that_a_job_needs_is_uploaded_and_no_more(checkout, package):
    _, names = checkout
    with zipfile.ZipFile(package) as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
    stay = ("tests/", "benchmarks/", "examples/", "docs/", "mkdocs.yml", ".ci/")
    left = {name for name in names if name.startswith(stay)}
    assert files == set(names) - left
    assert {"jobs/extract.py", "jobs/configs/extract_gpu.yaml", "linkner_ray/cli/app.py"} <= files
