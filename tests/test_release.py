"""Wheel and source archive: what is in them, and that commands run from the wheel alone."""

import email
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from linkner_ray.runs.code_version import code_version
from tests.cluster.repository import ROOT, VERSION, copy_checkout

NOT_IN_ARCHIVE = ("tests/", "benchmarks/", ".ci/", ".gitignore")
MADE_BY_SETUPTOOLS = {"PKG-INFO", "setup.cfg"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A checkout with what a user's may hold besides: caches, data, an earlier build."""
    folder = tmp_path_factory.mktemp("source")
    copy_checkout(folder)
    for stray in (
        "build/lib/linkner_ray/old.py",
        "linkner_ray/__pycache__/errors.cpython-311.pyc",
        "examples/__pycache__/smollm2.cpython-311.pyc",
        "shared/data.jsonl",
        "runs-output/entities/part-0.parquet",
    ):
        (folder / stray).parent.mkdir(parents=True, exist_ok=True)
        (folder / stray).touch()
    return folder


@pytest.fixture(scope="module")
def dist(source):
    """Folder with what `make dist` builds."""
    make = ["make", "--no-print-directory", "-o", "setup", "dist", f"RUN={sys.prefix}/bin/"]
    # `make test` tells its children its own flags and level.
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    done = subprocess.run(make, cwd=source, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        f"dist/linkner_ray-{VERSION}-py3-none-any.whl",
        f"dist/linkner_ray-{VERSION}.tar.gz",
    ]
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(dist):
    [path] = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def run(wheel, tmp_path_factory):
    """Runs a program of an environment that holds the wheel, in an empty folder.

    The libraries are those of this environment; the package in it is not seen.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    packages = sysconfig.get_path("purelib", vars={"base": str(folder)})
    (Path(packages) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-compile"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)

    def run(name, *words):
        empty = tmp_path_factory.mktemp("empty")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [str(folder / "bin" / name), *words],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_the_package_and_nothing_else(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = [path for path in (source / "linkner_ray").rglob("*") if path.suffix != ".pyc"]
    assert names == {path.relative_to(source).as_posix() for path in package if path.is_file()}
    assert {
        "linkner_ray/label_sets/conll03.yaml",
        "linkner_ray/reporting/templates/page.js",
    } < names


def test_the_source_archive_holds_the_demo_and_the_documentation_but_no_tests(dist, tmp_path):
    committed = copy_checkout(tmp_path)
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {
            member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()
        }
    found = {name for name in names - MADE_BY_SETUPTOOLS if ".egg-info/" not in name}
    assert found == {name for name in committed if not name.startswith(NOT_IN_ARCHIVE)}
    assert {"Makefile", "requirements/cpu.txt", "examples/demo/llm/model.safetensors"} < found


def test_the_metadata_are_those_of_the_project(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["Version"] == project["version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert set(metadata.get_all("Provides-Extra")) == {"cpu", "gpu"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quickstart = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert set(re.findall(r"linkner_ray-([\d.]+)-py3", quickstart)) == {VERSION}
    assert metadata.get_payload(decode=True).decode().strip() == readme.strip()


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["--version"], f"linkner {VERSION}\n"),
        (["--help"], "Named-entity recognition over web crawls"),
        (["labels", "list"], "conll03"),
        (["demo"], f"tar xzf linkner_ray-{VERSION}.tar.gz\n  make -C linkner_ray-{VERSION} demo\n"),
    ],
)
def test_commands_run_without_the_repository(run, words, printed):
    assert printed in run("linkner", *words)


def test_the_wheel_resolves_a_config(run, tmp_path):
    corpus = tmp_path / "corpus.conll"
    corpus.write_text("Merkel B-PER\nslept O\n")
    given = (f"corpus.train={corpus}", f"corpus.dev={corpus}", "corpus.label_set=conll03")
    output = (f"output.checkpoint={tmp_path}/checkpoint", f"output.storage={tmp_path}/storage")
    assert "label_set: conll03" in run("linkner", "train", "--dry-run", *given, *output)


def test_a_run_may_go_on_with_another_installation_of_the_same_code(run):
    """The code that made an output is known by its content, not by a version or a place."""
    digest = "from linkner_ray.runs.code_version import code_version; print(code_version())"
    assert run("python", "-c", digest) == f"{code_version()}\n"
    assert "linkner-ray" not in code_version()
