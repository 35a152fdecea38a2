"""What the files of cluster/ must agree with: the versions and pins of the project."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

VERSION: str = _PROJECT["version"]


def pinned(package: str, requirements: list[str] = _PROJECT["dependencies"]) -> str:
    """Version that pyproject.toml pins a package to."""
    [version] = [
        match[1]
        for line in requirements
        if (match := re.match(rf"{re.escape(package)}(?:\[[a-z,]*\])?==([\w.]+)", line))
    ]
    return version


RAY_VERSION = pinned("ray")
TORCH_VERSION = pinned("torch")
VLLM_VERSION = pinned("vllm", _PROJECT["optional-dependencies"]["gpu"])

IMAGE_TAG = f"{VERSION}-ray{RAY_VERSION}-gpu"


def pins(path: Path) -> dict[str, str]:
    """Packages and versions of a requirements file, without the files it includes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and line[0] != "#")


def images(tree: Any) -> set[str]:
    """Every value of a key `image` in a YAML tree."""
    if isinstance(tree, dict):
        found = {tree["image"]} if isinstance(tree.get("image"), str) else set()
        return found.union(*(images(value) for value in tree.values()))
    if isinstance(tree, list):
        return set().union(*(images(value) for value in tree))
    return set()


def copy_checkout(to: Path) -> list[str]:
    """Copy the files that a commit of everything would hold; their paths, in order."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout: git says which files belong to the project")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())
    for name in names:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    return names
